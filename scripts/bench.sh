#!/usr/bin/env bash
# Runs the benchmarks beside their peers and prints one table. PostgreSQL runs
# with fsync on: an entry that is not on the disk is not durable.
#
#   scripts/bench.sh                 all rooms, then calls and set-ups
#   scripts/bench.sh ./internal/vault/...
#   scripts/bench.sh calls           bridged calls, sealed, beside rtpengine and the bare system calls
#   scripts/bench.sh setups          what a call costs besides its sound
#   scripts/bench.sh soak            calls for SOAK (30m): losses, memory, files, each minute
#
# BENCHTIME (1s) is the time of each. On a busy machine compare ratios only.
# Of calls: BENCH_CALLS ("200 400 800"), BENCH_SECONDS (10), BENCH_PEERS and
# BENCH_SRTP (no: without), BENCH_RAMP (40 new calls a second), BENCH_SETUPS (400
# a second), BENCH_QUIET (0: seconds to wait for strangers to leave the machine
# to us), SOAK_CALLS (875), SOAK_SRTP (yes). YESLINE_BENCH_PROFILE names a file for the house's
# CPU profile; the number of calls is added to it, and .heap to another.
set -euo pipefail
cd "$(dirname "$0")/.."

# calls prints the tables of bridged calls.
calls() {
	binary=$(mktemp "${TMPDIR:-/tmp}/yesline-calls.XXXXXX")
	go test -c -o "$binary" ./internal/app
	status=0
	(cd internal/app && YESLINE_BENCH="$1" exec "$binary" -test.run '^TestFiguresOfCalls$' -test.timeout 3h) || status=$?
	rm -f "$binary"
	return "$status"
}

case "${1:-}" in
calls | setups | soak)
	calls "$*"
	exit
	;;
esac

everything=
[ $# -gt 0 ] || { everything=yes; set -- . ./internal/...; }
folder=$(mktemp -d "${TMPDIR:-/tmp}/yesline-bench.XXXXXX")
nginx=
finish() {
	status=$?
	[ -z "$nginx" ] || { kill "$nginx" 2>/dev/null; wait "$nginx" 2>/dev/null; } || true
	rm -rf "$folder"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# nginx serves a plaintext recording: 10 minutes of 16-bit PCM at 8 kHz.
program=$(PATH=$PATH:/usr/sbin:/sbin command -v nginx || true)
if [ -n "$program" ]; then
	mkdir "$folder/www" "$folder/tmp"
	head -c 9600044 /dev/urandom >"$folder/www/track.wav"
	chmod -R a+rX "$folder"
	port=$((20000 + RANDOM % 12000))
	cat >"$folder/nginx.conf" <<CONF
daemon off;
master_process off;
pid $folder/nginx.pid;
error_log $folder/error.log;
events {}
http {
	access_log off;
	sendfile on;
	keepalive_requests 1000000000;
	client_body_temp_path $folder/tmp;
	proxy_temp_path $folder/tmp;
	fastcgi_temp_path $folder/tmp;
	uwsgi_temp_path $folder/tmp;
	scgi_temp_path $folder/tmp;
	server { listen 127.0.0.1:$port; root $folder/www; }
}
CONF
	"$program" -p "$folder" -c "$folder/nginx.conf" -e "$folder/error.log" &
	nginx=$!
	export YESLINE_BENCH_NGINX="http://127.0.0.1:$port/track.wav" YESLINE_BENCH_NGINX_PID=$nginx
else
	echo "no nginx here: its line is left out" >&2
fi

# One package after the other, so that they do not take each other's cores.
YESLINE_TEST_FSYNC=on scripts/postgres.sh go test -p 1 -run '^$' -bench . -benchtime "${BENCHTIME:-1s}" "$@" \
	>"$folder/out" 2>&1 && failed= || failed=yes

grep -m1 '^cpu:' "$folder/out" || true
awk '
function time(ns) {
	if (ns >= 1e6) return sprintf("%.2f ms", ns / 1e6)
	if (ns >= 1e3) return sprintf("%.2f us", ns / 1e3)
	return sprintf("%.1f ns", ns)
}
function many(n) { return n >= 1e4 ? sprintf("%.1f k", n / 1e3) : sprintf("%.0f", n) }
BEGIN {
	# The bars of the design, by benchmark.
	bar["Decision"] = "<= 3 us"
	bar["AppendSQLite1"] = "<= 0.3 ms"
	bar["AppendSQLite64"] = ">= 50 k/s"
	bar["AppendPostgres64"] = ">= 40 k/s"
	printf "%-12s %-28s %12s %12s %12s  %-10s %s\n", "room", "what", "each", "a second", "MB/s", "bar", "also"
}
/^pkg:/ { room = $2; sub(/^yesline\/internal\//, "", room); if (room == "yesline") room = "(peer)" }
/^Benchmark/ {
	name = $1; sub(/^Benchmark/, "", name); sub(/-[0-9]+$/, "", name)
	ns = ""; mb = ""; also = ""
	for (i = 3; i < NF; i += 2) {
		if ($(i + 1) == "ns/op") ns = $i
		else if ($(i + 1) == "MB/s") mb = $i
		else also = also " " $i " " $(i + 1)
	}
	if (ns == "" || ns == 0) next
	printf "%-12s %-28s %12s %12s %12s  %-10s%s\n", room, name, time(ns), many(1e9 / ns), mb, bar[name], also
}
' "$folder/out"
[ -z "$everything" ] || calls "calls setups" || failed=yes
[ -z "$failed" ] || { echo "some did not run:" >&2; grep -vE '^(Benchmark|goos|goarch|cpu|pkg|PASS|ok|\?)' "$folder/out" >&2; exit 1; }
