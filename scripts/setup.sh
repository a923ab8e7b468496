#!/usr/bin/env bash
# Installs what the tests talk to: real peers instead of stand-ins. It says what
# it installs, is quick when all is there, and touches nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."

# command, and the Debian package that brings it
peers="
baresip:baresip-core
sipp:sip-tester
svmap:sipvicious
turnserver:coturn
tcpdump:tcpdump
chromium:chromium
ip:iproute2
opusinfo:opus-tools
"
missing=
for peer in $peers; do
	PATH=$PATH:/usr/sbin:/sbin command -v "${peer%%:*}" >/dev/null || missing="$missing ${peer##*:}"
done
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || command -v postgres >/dev/null || missing="$missing postgresql"
cc=${CC:-gcc}
command -v "${cc%% *}" >/dev/null || missing="$missing gcc libc6-dev" # the race detector's

axe=4.14.1
axe_sha512=1477dafa598d8d065f273d6af302aa203c02e83131707b7fa648cd41bd3d6b734f8c22a0dab86ee6a6f64b8afbe804b214d36db85a2826965edfb3a0b9d546b5
axe_folder=.cache/axe-core-$axe
[ -s "$axe_folder/axe.min.js" ] || command -v npm >/dev/null || missing="$missing npm"

if [ -n "$missing" ]; then
	as=
	[ "$(id -u)" = 0 ] || as=sudo
	if ! command -v apt-get >/dev/null || { [ -n "$as" ] && ! command -v sudo >/dev/null; }; then
		echo "setup: please install these Debian packages, or their like:$missing" >&2
		echo "setup: the tests that need them are skipped, or fail when CI=true" >&2
	else
		echo "setup: installing$missing"
		$as apt-get update -qq
		DEBIAN_FRONTEND=noninteractive $as apt-get install -y -qq --no-install-recommends $missing >/dev/null
	fi
fi

# The accessibility checker that the browser tests put into the page. It is
# test equipment, so it is fetched, checked and kept outside git.
if [ ! -s "$axe_folder/axe.min.js" ] && command -v npm >/dev/null; then
	echo "setup: fetching axe-core $axe into $axe_folder"
	mkdir -p "$axe_folder"
	echo '*' >.cache/.gitignore
	(
		cd "$axe_folder"
		npm pack --silent "axe-core@$axe" >/dev/null 2>npm.log || { cat npm.log >&2; exit 1; }
		echo "$axe_sha512  axe-core-$axe.tgz" | sha512sum --check --quiet || { echo "setup: axe-core $axe is not the file we know" >&2; exit 1; }
		tar -xzf "axe-core-$axe.tgz" --strip-components=1 package/axe.min.js package/LICENSE
		rm -f "axe-core-$axe.tgz" npm.log
	)
fi
scripts/pebble.sh
echo "setup: all there"
