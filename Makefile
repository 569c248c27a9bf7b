# Everything that a newcomer needs. Each target installs what it needs on first use (see tools/setup.sh).
SHELL := /bin/bash
.DEFAULT_GOAL := help
VITEST := tools/node node_modules/vitest/vitest.mjs run

.PHONY: help setup tools demo scenarios test test-unit test-real test-attacks fuzz sbom sim sim-mutants bench lint format lab-up lab-down gen

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s '|'

setup: ## install the node modules (first use: about a minute)
	@tools/setup.sh

tools: setup ## build or unpack etcd, kube-apiserver, Envoy and the lab's delay (first use: about seven minutes)
	@tools/node scenarios/lab/tools-cli.ts install

demo: tools ## the main job: three clusters, a region lost, the timeline and the table
	@tools/node scenarios/demo/main.ts

test: setup ## all tests; the tools are built while the quick tests run
	@tools/test.sh

test-unit: setup ## quick tests: no root, no tools, under a minute
	@$(VITEST) --project unit

test-real: tools ## tests with real etcd, kube-apiserver, Envoy and network namespaces
	@$(VITEST) --project real --project mesh

test-attacks: tools ## a hostile member and a hostile etcd against real processes
	@$(VITEST) --project attacks

fuzz: setup ## broken input for every decoder; FUZZ_RUNS=n inputs to each, FUZZ_SEED=n to see one again
	@FUZZ_RUNS=$(or $(FUZZ_RUNS),2000) $(if $(FUZZ_SEED),FUZZ_SEED=$(FUZZ_SEED)) $(VITEST) --project fuzz

sbom: setup ## what the release is made of, as CycloneDX JSON: out/sbom.json
	@tools/node tools/sbom.ts

sim: setup ## simulated clusters and faults: SEEDS=n new ones, or SEED=n, SCENARIO=file, CLUSTERS=n
	@tools/node test/sim/main.ts $(if $(SEED),--seed $(SEED)) $(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(CLUSTERS),--clusters $(CLUSTERS)) $(if $(FROM),--from $(FROM)) $(if $(SECONDS_MAX),--seconds $(SECONDS_MAX)) $(if $(SEEDS),--seeds $(SEEDS))

sim-mutants: setup ## broken variants of the code, each of which the simulation must catch
	@tools/node test/sim/mutants/main.ts

bench: tools ## the figures of docs/BENCHMARKS.md
	@tools/node bench/main.ts

lint: setup ## types, style
	@tools/node node_modules/typescript/bin/tsc -p .
	@node_modules/.bin/biome ci --error-on-warnings .

format: setup ## rewrite the sources in the house style
	@node_modules/.bin/biome check --write .

scenarios: tools ## chaos scenarios on one lab, with a report in out/scenarios.html
	@tools/node scenarios/chaos/main.ts $(SCENARIOS)

lab-up: tools ## three clusters that stay until lab-down
	@tools/node scenarios/lab/main.ts up

lab-down: setup ## end the lab and whatever a crashed one left
	@tools/node scenarios/lab/main.ts down

gen: setup ## regenerate src/gen from proto/ and the Envoy API
	@tools/gen.sh
