#!/usr/bin/env bash
# Runs each fuzz target for FUZZTIME (20s), one after the other. A failing
# input is kept by go test under testdata/fuzz: commit it with the mend.
set -euo pipefail
cd "$(dirname "$0")/.."

found=$(grep -rlE --include='*_test.go' '^func Fuzz[A-Z]' . | sort)
[ -n "$found" ] || { echo "no fuzz targets"; exit 0; }
failed=
for file in $found; do
	for target in $(sed -nE 's/^func (Fuzz[A-Z][A-Za-z0-9_]*)\(.*/\1/p' "$file"); do
		echo "== $target in $(dirname "$file")"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-20s}" "$(dirname "$file")" || failed="$failed $target"
	done
done
[ -z "$failed" ] || { echo "these failed:$failed" >&2; exit 1; }
