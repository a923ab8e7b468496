#!/usr/bin/env bash
# Opens a house of made-up people on this machine, has the enemy try every door
# of it, and prints what came of it: 0 tight, 3 leaks, 1 not all was reached.
# Whatever is given is passed on, such as --json or --only "GET /calls/{call}".
#
#   scripts/attack.sh
#   YESLINE=path/to/yesline scripts/attack.sh   another build, such as a mutant
#
# All is over after three minutes at most.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$(mktemp -d "${TMPDIR:-/tmp}/yesline-attack.XXXXXX")
house=
finish() {
	status=$?
	if [ -n "$house" ]; then
		kill "$house" 2>/dev/null && wait "$house" 2>/dev/null || true
	fi
	rm -rf "$folder"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

yesline=${YESLINE:-}
if [ -z "$yesline" ]; then
	yesline=$folder/yesline
	go build -o "$yesline" ./cmd/yesline
fi

TMPDIR=$folder timeout 170 "$yesline" demo --canaries "$folder/canaries.json" --http 127.0.0.1:0 >"$folder/demo" 2>&1 &
house=$!
for _ in $(seq 600); do
	grep -q '^canaries ' "$folder/demo" && break
	if ! kill -0 "$house" 2>/dev/null; then
		cat "$folder/demo" >&2
		echo "the house did not open" >&2
		exit 1
	fi
	sleep 0.1
done
url=$(sed -n 's/^pages //p' "$folder/demo")
log=$(sed -n 's/^log //p' "$folder/demo")
if [ -z "$url" ] || [ -z "$log" ]; then
	cat "$folder/demo" >&2
	echo "the house took too long to open" >&2
	exit 1
fi
timeout 110 "$yesline" attack "$url" --identities "$folder/canaries.json" --log "$log" "$@"
