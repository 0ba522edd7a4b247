# Everything a developer runs. Each target installs the Debian packages it needs (setup/packages).

# The recipes run one cargo build at a time.
.NOTPARALLEL:
.DEFAULT_GOAL := help

STEP := setup/step
CARGO_DENY := 0.20.2

.PHONY: help setup demo test-packages test loadtest gpu-bundle fmt lint check-no-ffmpeg web-checks grafana-checks deny

help: ## this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install the Debian packages of building, testing, the demo and the load tests
	@setup/packages build demo test load

demo: ## build, start everything in one process and publish a test stream to it
	@demo/run

test-packages:
	@setup/packages build test

test: test-packages ## all checks and tests, as on every change
	@$(STEP) 'Format' cargo fmt --all --check
	@$(MAKE) --no-print-directory web-checks
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory grafana-checks
	@$(STEP) 'MongoDB-wire server of the tests' setup/mongo-server
	@$(STEP) 'Build' cargo build --workspace
	@$(STEP) 'Tests' cargo test --workspace

loadtest: ## a k6 smoke: 20 HLS viewers that must not stall
	@setup/packages build load
	@loadtest/run-smoke

bench-%: tests/browser/node_modules/.package-lock.json ## one comparison of the harness in loadtest/, by its name
	@setup/packages build test bench
	@[ $* != webrtc ] || $(STEP) 'MediaMTX, a peer' setup/mediamtx
	@$(STEP) 'Build' cargo build --release --package sluicegate --package sluicegate-loadtest
	@SLUICEGATE_TEST_BIN=$(CURDIR)/target/release/sluicegate target/release/bench $*

gpu-bundle: ## `make bench-gpu` for a bare machine with graphics cards: target/gpu/bundle.tar.xz, then `sh run` there
	@setup/packages build test bench
	@$(STEP) 'Build' cargo build --release --package sluicegate --package sluicegate-loadtest
	@loadtest/bundle-gpu target/release target/gpu

fmt: ## format the Rust code
	@cargo fmt --all

lint: test-packages check-no-ffmpeg ## what clippy and shellcheck say
	@$(STEP) 'Clippy' cargo clippy --workspace --all-targets -- -D warnings
	@$(STEP) 'Shell scripts' shellcheck --external-sources .ci/run demo/run loadtest/run-smoke loadtest/bundle-gpu setup/*

# A balancer or an edge builds without FFmpeg. Only the two packages with that feature are checked again.
check-no-ffmpeg: test-packages ## does it compile without FFmpeg?
	@$(STEP) 'Without FFmpeg' cargo clippy --package sluicegate --no-default-features -- -D warnings

web-checks: test-packages web/node_modules/.package-lock.json tests/browser/node_modules/.package-lock.json ## types and tests of everything in JavaScript
	@$(STEP) 'Web pages: types' npm --prefix web run --silent check
	@$(STEP) 'Web pages: tests' npm --prefix web run --silent test
	@$(STEP) 'Load scripts: tests' node --test loadtest/k6/lib/playlist.test.js loadtest/k6/lib/buffer.test.js

grafana-checks: test-packages ## the dashboard's expressions, the alerts and their tests, by promtool
	@promtool=$$(setup/promtool) && cd grafana \
	  && ../$(STEP) 'Dashboard' node check.mjs "$$promtool" \
	  && ../$(STEP) 'Alerts' "$$promtool" check config prometheus.yml \
	  && ../$(STEP) 'Alert tests' "$$promtool" test rules alerts/sluicegate.test.yml

# Minutes on the first run: cargo-deny is built from source. Advisories are fetched from the network.
deny: ## licences, advisories and sources of the dependencies
	@cargo install --locked --root target/tools --version $(CARGO_DENY) cargo-deny
	@target/tools/bin/cargo-deny check $(DENY)

%/node_modules/.package-lock.json: %/package-lock.json
	@$(STEP) 'npm packages of $*' npm --prefix $* ci --silent
	@touch $@
