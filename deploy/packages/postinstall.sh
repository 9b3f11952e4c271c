#!/bin/sh
# The service is neither enabled nor started: it needs a tenant and its password first.
set -e
if command -v systemd-sysusers >/dev/null 2>&1; then
	systemd-sysusers /usr/lib/sysusers.d/spekeasy.conf
elif ! getent passwd spekeasy >/dev/null 2>&1; then
	useradd --system --user-group --home-dir /var/lib/spekeasy --shell /usr/sbin/nologin spekeasy
fi
chgrp spekeasy /etc/spekeasy/config.yaml
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload
fi
