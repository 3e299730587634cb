# Sourced by the scripts of this folder: each step is one line of output, and what failed is shown whole.
#
# What a script gets from its surroundings:
#   KUBECONFIG      the administrator's kubeconfig
#   SCRATCH         a folder of its own, removed afterwards
#   PODS            "yes" where a node runs pods, with the images myapp:1.2.0 and myapp:1.3.0
#   RESTART_SERVER  a command that kills the server, starts it again on its files, and returns when it is ready

failed=0

# step NAME COMMAND…: runs the command and tells whether it succeeded; what it said is shown where it did not.
step() {
    local name=$1 said status
    shift
    # Not as part of a condition: `set -e` would not hold inside.
    said=$(
        set -eu -o pipefail
        trap stop_background EXIT
        "$@" 2>&1
    )
    status=$?
    if [ "$status" = 0 ]; then
        printf '  ok      %s\n' "$name"
    else
        failed=$((failed + 1))
        printf '  FAILED  %s: %s\n' "$name" "$*"
        printf '%s\n' "$said" | tail -n 40 | sed 's/^/            /'
    fi
    return "$status"
}

# What a step left running ends with it.
stop_background() {
    local pid
    for pid in $(builtin jobs -p); do kill "$pid" 2>/dev/null || true; done
}

# step_of_pods NAME COMMAND…: the same, where pods run.
step_of_pods() {
    if [ "$PODS" = yes ]; then
        step "$@"
    else
        printf '  skipped %s (no node runs pods)\n' "$1"
    fi
}

# says PATTERN COMMAND…: what the command prints has to match the extended regular expression; it may span lines.
says() {
    local pattern=$1 said status=0
    shift
    said=$("$@" 2>&1) || status=$?
    if [ "$status" = 0 ] && [[ $said =~ $pattern ]]; then return 0; fi
    printf '$ %s\n%s\n(status %s) does not succeed and match: %s\n' "$*" "$said" "$status" "$pattern"
    return 1
}

# is TEXT COMMAND…: what the command prints has to be this, to the letter.
is() {
    local wanted=$1 said status=0
    shift
    said=$("$@" 2>&1) || status=$?
    if [ "$status" = 0 ] && [ "$said" = "$wanted" ]; then return 0; fi
    printf '$ %s\n%s\n(status %s) is not: %s\n' "$*" "$said" "$status" "$wanted"
    return 1
}

# refuses PATTERN COMMAND…: the command has to fail and say something that matches.
refuses() {
    local pattern=$1 said status=0
    shift
    said=$("$@" 2>&1) || status=$?
    if [ "$status" != 0 ] && [[ $said =~ $pattern ]]; then return 0; fi
    printf '$ %s\n%s\n(status %s) does not fail and match: %s\n' "$*" "$said" "$status" "$pattern"
    return 1
}

# eventually SECONDS COMMAND…: runs the command until it succeeds; shows its last words where it does not in time.
eventually() {
    local limit=$1 began=$SECONDS said
    shift
    until said=$("$@" 2>&1); do
        if [ $((SECONDS - began)) -ge "$limit" ]; then
            printf '%s\nnot within %s seconds: %s\n' "$said" "$limit" "$*"
            return 1
        fi
        sleep 0.3
    done
}

# The end of a script: its status tells whether every step succeeded.
finish_steps() {
    if [ "$failed" != 0 ]; then
        printf '  %s steps FAILED\n' "$failed"
        exit 1
    fi
}
