#!/usr/bin/env bash
# Installs what the tests need on Debian: a C compiler for the race detector, real mail servers, real clients, PostgreSQL.
# Quick when all is there. Cyrus and Courier cannot be installed beside Dovecot (all of them are "imap-server"), so their
# packages are unpacked into a folder, $MAILGATE_LAB (/var/lib/mailgate-lab), and only their libraries are installed. OpenLDAP and
# BIND are unpacked there too, with their libraries: nothing of them is needed but slapd and named.
# scripts/setup.sh bench installs the peers of the benchmarks too.
set -eu
lab=${MAILGATE_LAB:-/var/lib/mailgate-lab}
need=(gcc libc6-dev dovecot-core dovecot-imapd dovecot-pop3d dovecot-submissiond dovecot-lmtpd dovecot-sieve dovecot-managesieved postfix swaks libnet-ssleay-perl isync mutt neomutt offlineimap3 curl fetchmail getmail6 mpop sieve-connect
	postgresql libclamav12 libical3 libjansson4 libpq5 libxapian30 libzephyr4 libwrap0 libpcre3 libsasl2-2 libsasl2-modules
	libsasl2-modules-db sasl2-bin libcourier-unicode4 libgamin0 gamin libgdbm6 libidn12 libltdl7 libgnutls30 liblmdb0 libjson-c5 libnghttp2-14 libxml2 openssl)
[ "${1:-}" = bench ] && need+=(nginx-light libnginx-mod-mail)
missing=()
for p in "${need[@]}"; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -eq 0 ] && [ -e "$lab/cyrus/.done" ] && [ -e "$lab/courier/.done" ] && [ -e "$lab/pop3/.done" ] && [ -e "$lab/ldap/.done" ] && [ -e "$lab/bind/.done" ]; then exit 0; fi
if [ "$(id -u)" != 0 ]; then
	echo "run as root; missing packages: ${missing[*]:-none}; missing in $lab: Cyrus, Courier, their POP3, OpenLDAP or BIND" >&2
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
[ ${#missing[@]} -eq 0 ] || apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 "${missing[@]}"

unpack() { # name package...: under $lab/name, complete or not at all
	local d=$lab/$1 p
	[ ! -e "$d/.done" ] || return 0
	shift
	rm -rf "$d.new"
	mkdir -p "$d.new/deb"
	chmod 0755 "$lab" "$d.new"
	chmod 0777 "$d.new/deb" # apt downloads as a user of its own
	(cd "$d.new/deb" && apt-get download -q "$@")
	for p in "$d.new"/deb/*.deb; do dpkg-deb -x "$p" "$d.new"; done
	ls "$d.new/deb" >"$d.new/.done"
	rm -rf "$d.new/deb" "$d"
	mv "$d.new" "$d"
}
unpack cyrus cyrus-common cyrus-imapd cyrus-clients
unpack courier courier-base courier-imap courier-authlib courier-authlib-userdb
unpack pop3 cyrus-pop3d courier-pop
unpack ldap slapd libldap-2.5-0 libodbc2
unpack bind bind9 bind9-libs libjemalloc2 libmaxminddb0 libfstrm0 libprotobuf-c1 libuv1
