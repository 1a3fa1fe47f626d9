#!/bin/sh
# Runs the tests of the page, in Debian's Chromium, which root gets by itself.
set -eu
cd "$(dirname "$0")/.."
chromium="${CHROMIUM:-/usr/bin/chromium}"
if ! [ -x "$chromium" ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "installing chromium"
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-noto-color-emoji fonts-noto-cjk; } >/dev/null
	fi
	[ -x "$chromium" ] || { echo "the tests of the page need a browser: apt-get install -y chromium, or name another one in CHROMIUM" >&2; exit 1; }
fi
exec npm test --silent
