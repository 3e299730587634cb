# The commands of this repository. Each installs the Debian packages that it needs, if they are missing.
#
#   make demo     start a secured cluster on this machine and run an application on it; make down takes it away
#   make test     everything that must hold before a change is merged
#   make bench    rates, latencies and costs of a fresh server, a line of JSON per figure
#   make install  the optimised secctl with its systemd units

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:

export PATH := $(HOME)/.cargo/bin:$(PATH)
# One target directory for all clones of one user, so that a second clone is built in seconds.
export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(HOME)/.cache/martello/target)

# Where `make install` puts things; DESTDIR for packagers.
PREFIX ?= /usr/local
UNITDIR ?= /etc/systemd/system

DEV := $(CARGO_TARGET_DIR)/debug
OPTIMISED := $(CARGO_TARGET_DIR)/release

.PHONY: help
help:
	@sed -n 's/^#  *make /make /p' Makefile

.PHONY: demo
demo:
	@.ci/packages build node demo
	echo "== building secctl (the first time takes some minutes)"
	cargo build --workspace --bins
	docs/examples/demo.sh up "$(DEV)/secctl"

.PHONY: down
down:
	@docs/examples/demo.sh down "$(DEV)/secctl"

# Fast first: what fails, fails early.
.PHONY: test
test:
	@.ci/packages build node demo test
	step() { printf '\n== %s (%s)\n' "$$*" "$$(date +%T)"; }
	step formatting; cargo fmt --all --check
	step clippy; cargo clippy --workspace --all-targets --locked -- -D warnings
	step building; cargo build --workspace --bins --locked
	if cargo nextest --version >/dev/null 2>&1; then
		step tests and fuzz corpora; cargo nextest run --workspace --locked
	else
		step tests and fuzz corpora; cargo test --workspace --locked --lib --bins --tests
	fi
	step tests in the documentation; cargo test --workspace --locked --doc
	step documentation; RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	if cargo deny --version >/dev/null 2>&1; then
		step licences and sources; cargo deny --config .deny.toml check licenses sources bans
	fi
	step all is well

# FLAGS are passed on: make bench FLAGS="--only get,create --seconds 10", or FLAGS="--kubeconfig FILE --server-pid PID"
# to put the same load on another Kubernetes API server of this machine, or FLAGS="--against FILE --against-pid PID" to put
# it on a fresh one and on another in one run.
.PHONY: bench
bench:
	@.ci/packages build
	echo "== building with optimisation (the first time takes some minutes)" >&2
	cargo build --workspace --bins --profile bench --locked
	images=$$(mktemp -d)
	trap 'rm -rf "$$images"' EXIT
	pods=
	if [ "$$(id -u)" = 0 ] && [ -z "$(FLAGS)" ]; then
		.ci/packages node demo
		docs/examples/images/build.sh "$$images" >&2
		pods="--node --image-archive $$images/myapp-1.2.0.tar"
	fi
	"$(OPTIMISED)/load" $$pods $(FLAGS)

# Plays recorded conversations with another server against a fresh one and counts how many agree.
# REFERENCE is a folder that holds replay.py and the recordings.
.PHONY: conversations
conversations:
	@if [ -z "$(REFERENCE)" ]; then echo "usage: make conversations REFERENCE=FOLDER [ONLY=PREFIX] [VERBOSE=1]" >&2; exit 2; fi
	.ci/packages build
	cargo build --workspace --bins
	tests/conversations.sh "$(DEV)/secctl" "$(REFERENCE)" "$(ONLY)" "$(VERBOSE)"

# Real clients (Helm, kubectl, client libraries) do real work against a fresh server. They come from PyPI and npm.
# As root, pods run. ONLY names some of them: make clients ONLY="helm kopf".
.PHONY: clients
clients:
	@.ci/packages build clients
	if [ "$$(id -u)" = 0 ]; then .ci/packages node demo; fi
	cargo build --workspace --bins
	tests/clients/run.sh "$(DEV)/secctl" $(ONLY)

# Compares objects, discovery and OpenAPI with those of another server of the same API.
# REFERENCE is a folder that holds objects/, discovery/ and swagger.json.
.PHONY: reference
reference:
	@if [ -z "$(REFERENCE)" ]; then echo "usage: make reference REFERENCE=FOLDER" >&2; exit 2; fi
	.ci/packages build
	MARTELLO_REFERENCE="$(REFERENCE)" cargo test --workspace --locked --test reference

.PHONY: install
install:
	@.ci/packages build node
	if [ "$$(id -u)" != 0 ] && [ -z "$(DESTDIR)" ]; then echo "make install changes the system: run it as root, or set DESTDIR" >&2; exit 1; fi
	cargo build --workspace --bins --release --locked
	install -D -m 755 "$(OPTIMISED)/secctl" "$(DESTDIR)$(PREFIX)/bin/secctl"
	for unit in martello-server.service martello-node.service; do
		sed 's|/usr/local/bin|$(PREFIX)/bin|' "secctl/systemd/$$unit" | install -D -m 644 /dev/stdin "$(DESTDIR)$(UNITDIR)/$$unit"
	done
	install -d -m 755 "$(DESTDIR)/etc/martello"
	for name in server node; do
		[ -e "$(DESTDIR)/etc/martello/$$name.yaml" ] || install -m 640 "secctl/systemd/$$name.yaml" "$(DESTDIR)/etc/martello/$$name.yaml"
	done
	if [ -z "$(DESTDIR)" ]; then
		getent passwd martello-server >/dev/null || useradd --system --user-group --no-create-home --home-dir /var/lib/martello --shell /usr/sbin/nologin martello-server
		getent passwd martello >/dev/null || useradd --system --user-group --no-create-home --shell /usr/sbin/nologin martello
		chown root:martello-server /etc/martello/server.yaml
		install -d -m 700 -o martello-server -g martello-server /var/lib/martello /etc/martello/keys
		install -d -m 711 /var/lib/martello-node
		if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
		echo "installed. Start it with: systemctl enable --now martello-server"
		echo "then a kubeconfig:        secctl kubeconfig > ~/.kube/config"
		echo "and this machine as node: secctl token create, then systemctl enable --now martello-node"
	fi
