# One entry for every habit. `make` alone tells what there is.
SHELL := bash
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mqtt-kafka-proxy
CARGO_DENY := $(CACHE)/cargo/bin/cargo-deny
CARGO_DENY_VERSION := 0.20.2
CARGO_FUZZ := $(CACHE)/cargo/bin/cargo-fuzz
CARGO_FUZZ_VERSION := 0.13.2
# For each target.
FUZZ_SECONDS ?= 60
ALL_FUZZ_TARGETS := mqtt_decode kafka_batch kafka_response ownership_record websocket proxy_header jwt scram config transform schema connection

.PHONY: help demo test check chaos fuzz bench certs
help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

demo: ## the round trip on this machine: a real Kafka, the proxy, mosquitto and kcat (KAFKA=host:port uses yours)
	@integration/demo

test: ## all tests, the ones against a real Kafka included; installs what they need
	@integration/need cargo cc openssl mosquitto_pub kcat paho confluent haproxy nss_wrapper chromium certutil chrt mqttjs
	@integration/kafka/kafka install
	@integration/kafka/kafka --oldest install
	@integration/registry/registry install
	@rm -rf target/tmp/{kafka,proxy,certs,authorities,registry}-*
	@mkdir -p target/tmp
	set -o pipefail; cargo test --workspace --locked 2>&1 | tee target/tmp/test.log || { \
	  echo "logs of Kafka and the proxies: target/tmp/{kafka,proxy}-*; what failed, once more:" >&2; \
	  grep -a -A 3 "panicked at" target/tmp/test.log | cut -c 1-500 | tail -n 40 >&2; exit 1; }

check: $(CARGO_DENY) ## formatting, lints, licences and bans, documentation without a warning
	cargo fmt --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked
	$(CARGO_DENY) --locked --all-features check --hide-inclusion-graph licenses bans sources

# Some minutes on two cores, once: it lives in the user's cache.
$(CARGO_DENY):
	@integration/need cargo cc
	cargo install --quiet --locked cargo-deny@$(CARGO_DENY_VERSION) --root $(CACHE)/cargo

# The stable compiler has the sanitizers, too; it only asks for this variable. What is found new stays out of the repository's corpus.
chaos: ## the long forms: 100,000 hostile connections; brokers killed, paused and restarted, a bad network, Kafka away for a minute, under load; instances killed, left and paused; simulated groups and owners
	@integration/need cargo cc openssl mosquitto_pub kcat paho haproxy nss_wrapper chrt
	@integration/kafka/kafka install
	@rm -rf target/tmp/{kafka,proxy,certs,authorities}-*
	CHAOS=long cargo test --locked --lib group::membership -- --nocapture
	FIRST_SEED=$${FIRST_SEED:-$$((RANDOM * 32768 + RANDOM))} SCHEDULES=1000000 cargo test --release --locked --test ownership_simulation no_schedule -- --nocapture
	CHAOS=long cargo test --release --locked --test integration hostile -- --nocapture --test-threads 1
	SEED=$${SEED:-$$RANDOM} CHAOS=long cargo test --release --locked --test integration -- --nocapture --test-threads 1 chaos away:: network behind shared:: sessions::hopping sessions::paused sessions::killed retained::what_is_acknowledged

# Programs of rules are bounded by where the stack ends, which is not to be seen where AddressSanitizer keeps variables elsewhere.
fuzz: export ASAN_OPTIONS := detect_stack_use_after_return=0
fuzz: $(CARGO_FUZZ) ## fuzzes the decoders, configurations, programs of rules, schemas and connections, FUZZ_SECONDS=60 for each target; FUZZ_TARGETS="jwt scram" only these
	@integration/need cargo cc g++
	for target in $(or $(strip $(FUZZ_TARGETS)),$(ALL_FUZZ_TARGETS)); do \
	  mkdir -p target/fuzz/corpus/$$target && \
	  RUSTC_BOOTSTRAP=1 $(CARGO_FUZZ) run --target-dir target/fuzz $$target target/fuzz/corpus/$$target fuzz/corpus/$$target -- \
	    -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -rss_limit_mb=1024 -print_final_stats=1 || exit 1; done

$(CARGO_FUZZ):
	@integration/need cargo cc
	cargo install --quiet --locked cargo-fuzz@$(CARGO_FUZZ_VERSION) --root $(CACHE)/cargo

bench: ## micro-benchmarks, then publishing and the Kafka client alone, beside librdkafka and the socket floor; handshakes, idle memory; all of it runs, and it fails if a goal is missed
	@integration/need cargo cc openssl kcat rdkafka
	@integration/kafka/kafka install
	cargo bench --locked --no-fail-fast

certs: ## development certificates in certs/
	@integration/need openssl
	@certs/make
