#!/bin/sh
# Makes secrets.env once. Whoever has it and the database has every content key; without SPEKEASY_KEK nobody opens
# any of them again.
set -eu
cd "$(dirname "$0")"
if [ -e secrets.env ]; then
	echo "secrets.env exists; a new key encryption key would open none of the keys that there are" >&2
	exit 1
fi
umask 077
password=$(openssl rand -hex 24)
cat >secrets.env.new <<EOF
POSTGRES_PASSWORD=$password
STORE_URL=postgres://spekeasy:$password@postgres/spekeasy
SPEKEASY_KEK=$(openssl rand -base64 32)
ACME_PASSWORD=$(openssl rand -hex 16)
EOF
mv secrets.env.new secrets.env
