#!/usr/bin/env bash
# Runs go test with everything a test may talk to, and stops what it started.
#
#   scripts/test.sh ./...                    what make test does
#   scripts/test.sh -race ./...              what make race does
#   scripts/test.sh -run Story ./internal/capture/...
#
# CI is passed on: with CI=true a test whose peer is missing fails instead of
# being skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

[ $# -gt 0 ] || set -- ./...
for axe in "$PWD"/.cache/axe-core-*/axe.min.js; do
	[ ! -s "$axe" ] || export YESLINE_AXE="$axe"
done
export YESLINE_WHOLE=1 # also the tests that take long
export PATH="$PATH:/usr/sbin:/sbin" # ip lives there
exec scripts/postgres.sh go test -timeout 8m "$@"
