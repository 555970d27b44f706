#!/usr/bin/env bash
# Installs what the tests need on Debian: a C compiler for the race detector, real mail servers, real clients. Quick when
# all is there.
# scripts/setup.sh bench installs the peers of the benchmarks too.
set -eu
need=(gcc libc6-dev dovecot-core dovecot-imapd dovecot-submissiond dovecot-lmtpd postfix swaks libnet-ssleay-perl isync mutt curl)
[ "${1:-}" = bench ] && need+=(nginx-light libnginx-mod-mail)
missing=()
for p in "${need[@]}"; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if [ "$(id -u)" != 0 ]; then
	echo "missing: ${missing[*]}; run as root: apt-get install --no-install-recommends ${missing[*]}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
made=
if [ ! -e /usr/sbin/policy-rc.d ]; then # the packages must not start servers of their own
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod 755 /usr/sbin/policy-rc.d
	made=1
fi
trap '[ -z "$made" ] || rm -f /usr/sbin/policy-rc.d' EXIT
apt-get update -q
apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 "${missing[@]}"
