#!/bin/bash
# Plays recorded conversations against a fresh server and counts how many agree:
# conversations.sh SECCTL REFERENCE [ONLY] [VERBOSE]
#
# REFERENCE holds replay.py and, in folders, the recordings. ONLY is the beginning of the cases' names.
set -eu

secctl=$1
reference=$2
only=${3:-}
verbose=${4:-}

if [ ! -f "$reference/replay.py" ]; then
    echo "conversations.sh: there is no replay.py in $reference" >&2
    exit 2
fi
work=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then
        kill -KILL "$server" 2>/dev/null || true
        wait "$server" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$secctl" server --data-dir "$work/data" --listen "127.0.0.1:$port" >"$work/log" 2>&1 &
server=$!
for _ in $(seq 600); do
    if ! kill -0 "$server" 2>/dev/null; then
        cat "$work/log" >&2
        echo "conversations.sh: the server ended" >&2
        exit 1
    fi
    if [ "$(curl -sk "https://127.0.0.1:$port/readyz" || true)" = ok ]; then break; fi
    sleep 0.1
done
# A value that was folded onto a line of its own goes back behind its name: the player reads line by line.
"$secctl" kubeconfig --data-dir "$work/data" 2>/dev/null | sed -e ':a' -e 'N' -e '$!ba' -e 's/: >-\n *\([^\n]*\)/: \1/g' >"$work/kubeconfig"

arguments=(--kubeconfig "$work/kubeconfig")
if [ -n "$only" ]; then arguments+=(--only "$only"); fi
if [ -n "$verbose" ]; then arguments+=(-v); fi
recordings=()
for folder in "$reference"/*/; do recordings+=("${folder%/}"); done
status=0
python3 "$reference/replay.py" "${arguments[@]}" "${recordings[@]}" | tee "$work/answers" || status=$?
if grep -q panicked "$work/log"; then
    grep -A 20 panicked "$work/log" >&2
    echo "conversations.sh: the server panicked" >&2
    exit 1
fi
exit "$status"
