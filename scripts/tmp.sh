#!/usr/bin/env bash
# Prints the folder for what tests write: memory, where programs may be run from it and 6 GB are free, for the servers write thousands of
# small files and wait for none of them; else that which is set.
tmp=${TMPDIR:-/tmp}
m=/dev/shm
free=$(df --output=avail -k "$m" 2>/dev/null | tail -1)
if [ "${free:-0}" -gt 6291456 ] && probe=$(mktemp "$m/mg-probe.XXXXXX" 2>/dev/null); then
	printf '#!/bin/sh\nexit 0\n' >"$probe"
	chmod 700 "$probe"
	"$probe" 2>/dev/null && tmp=$m
	rm -f "$probe"
fi
echo "$tmp"
