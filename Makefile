# make tells what there is; the work is done by go and by scripts/.
.DEFAULT_GOAL := help
.PHONY: help run setup check test race fuzz attack mutants bench vulnerable

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## the demo: calls between simulated phones, and pages to look at
	go run ./cmd/yesline demo

setup: ## install what the tests talk to (Debian: apt-get; says what it does)
	scripts/setup.sh

check: ## formatting, vet, staticcheck and the house rules: quick, no peers
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "gofmt wants these:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go test -run 'TestTheHouse|TestEachRule' .

test: setup ## vet and all tests, with PostgreSQL, baresip and Chromium
	go vet ./...
	scripts/test.sh ./...

race: setup ## all tests with the race detector
	scripts/test.sh -race ./...

fuzz: ## each fuzz target for FUZZTIME (20s)
	scripts/fuzz.sh

attack: ## a house of made-up people, and the enemy at every door (3: leaks)
	scripts/attack.sh

mutants: ## break each guard, one at a time, and name those that nobody misses
	scripts/postgres.sh go run ./scripts/mutants $(MUTANTS)

bench: ## the figures beside their peers, in one table
	scripts/bench.sh

vulnerable: ## known vulnerabilities in what we import (asks vuln.go.dev)
	go run golang.org/x/vuln/cmd/govulncheck@latest ./...
