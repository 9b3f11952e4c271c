#!/bin/sh
# Installs what the tests need beside Go: independent programs that check what
# we write. It asks for nothing when all of it is there.
set -eu

missing=
need() { # command, Debian package
	command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need xmllint libxml2-utils
need xmlsec1 xmlsec1
need openssl openssl
need curl curl
need gcc "gcc libc6-dev"
need softhsm2-util softhsm2

[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
	echo "the tests need these Debian packages, or the same programs from elsewhere:$missing" >&2
	exit 1
fi
echo "installing:$missing"
apt-get -o DPkg::Lock::Timeout=300 update -qq
# shellcheck disable=SC2086 # a list of packages
DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null
