#!/usr/bin/env bash
# Puts pebble, Let's Encrypt's test authority, into .cache for the tests of
# ACME: they run a house against it. It is a Go module, so go checks it.
set -euo pipefail
cd "$(dirname "$0")/.."

version=v2.10.1
folder=$PWD/.cache/pebble-$version
[ -x "$folder/pebble" ] && exit 0
echo "setup: building pebble $version into .cache"
mkdir -p "$folder"
echo '*' >.cache/.gitignore
GOBIN=$folder GOFLAGS= go install "github.com/letsencrypt/pebble/v2/cmd/pebble@$version"
