#!/usr/bin/env bash
# Runs a command beside a private PostgreSQL cluster: on loopback, on a free
# port, in a temporary folder, stopped and removed when the command ends.
#
#   scripts/postgres.sh go test ./internal/db/...
#
# The command finds the address in YESLINE_TEST_POSTGRES. fsync is off: these
# databases are thrown away, so a power cut costs nothing but the run.
# YESLINE_TEST_FSYNC=on turns it on, for benchmarks of durability.
set -euo pipefail
set -m # each process we start leads a group of its own, so that we can stop all of it and nothing else

[ $# -gt 0 ] || { echo "usage: scripts/postgres.sh command..." >&2; exit 2; }

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1 || true)
if [ -z "$bin" ] && command -v initdb >/dev/null; then bin=$(dirname "$(readlink -f "$(command -v initdb)")"); fi
[ -x "$bin/postgres" ] || { echo "there is no PostgreSQL here: run make setup" >&2; exit 1; }

# PostgreSQL refuses to run as root; its Debian package brings a user for it.
# setpriv becomes the program it starts, so the process we signal is the server.
as=()
if [ "$(id -u)" = 0 ]; then as=(setpriv --reuid=postgres --regid=postgres --init-groups); fi

here=$PWD
folder=$(mktemp -d "${TMPDIR:-/tmp}/yesline-postgres.XXXXXX")
server=
command=
finish() {
	local status=$?
	trap - EXIT INT TERM HUP
	if [ -n "$command" ]; then kill -TERM -- "-$command" 2>/dev/null || true; fi
	if [ -n "$server" ]; then
		kill -INT "$server" 2>/dev/null || true # fast shutdown
		wait "$server" 2>/dev/null || true
	fi
	cd /
	rm -rf "$folder"
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
if [ "$(id -u)" = 0 ]; then chown postgres "$folder"; fi

cd "$folder" # the postgres user may not be let into ours
"${as[@]}" "$bin/initdb" --pgdata=data --username=yesline --auth=trust --encoding=UTF8 --locale=C --no-sync \
	>initdb.log 2>&1 || { echo "initdb failed:" >&2; cat initdb.log >&2; exit 1; }

fsync=${YESLINE_TEST_FSYNC:-off}
ready=
for try in 1 2 3 4 5; do
	port=$((20000 + RANDOM % 12000)) # a taken one ends the server at once, and we try another
	"${as[@]}" "$bin/postgres" -D data -p "$port" -k "$folder" -h 127.0.0.1 \
		-c fsync="$fsync" -c full_page_writes="$fsync" -c synchronous_commit="$fsync" \
		-c max_connections=400 -c shared_buffers=64MB -c log_min_messages=fatal >server.log 2>&1 &
	server=$!
	for wait in $(seq 100); do
		if "$bin/pg_isready" -q -h "$folder" -p "$port"; then ready=yes; break; fi
		kill -0 "$server" 2>/dev/null || break
		sleep 0.1
	done
	[ -z "$ready" ] || break
	kill -INT "$server" 2>/dev/null || true
	wait "$server" 2>/dev/null || true
	server=
done
[ -n "$ready" ] || { echo "PostgreSQL did not start:" >&2; cat server.log >&2; exit 1; }

export YESLINE_TEST_POSTGRES="postgres://yesline@127.0.0.1:$port/postgres?sslmode=disable"
cd "$here"
"$@" &
command=$!
status=0
wait "$command" || status=$?
command=
exit "$status"
