#!/usr/bin/env bash
# Runs in mounts and process numbers of its own. Cyrus wants a user "cyrus", and logs to /dev/log only; neither the
# machine's users nor its /dev are touched.
set -e
d={{.Host.Dir}}
mount --make-rprivate /
{ grep -v ^cyrus: /etc/passwd; echo "cyrus:x:{{.Host.MailID}}:{{.Host.MailID}}::/:/bin/false"; } >"$d/passwd"
{ grep -v ^cyrus: /etc/group; echo "cyrus:x:{{.Host.MailID}}:"; } >"$d/group"
mount --bind "$d/passwd" /etc/passwd
mount --bind "$d/group" /etc/group
mount -t tmpfs -o mode=0755 tmpfs "$d/dev"
for f in null zero full random urandom tty; do
	touch "$d/dev/$f"
	mount --bind "/dev/$f" "$d/dev/$f"
done
mkdir "$d/dev/shm" # our folder may be in it
mount --bind /dev/shm "$d/dev/shm"
ln -s /proc/self/fd "$d/dev/fd"
ln -s "$d/sock/log" "$d/dev/log"
mount --move "$d/dev" /dev
exec 3<&0 </dev/null
"{{.Bin}}/master" -l 1024 -C "$d/imapd.conf" -M "$d/cyrus.conf" -p "$d/master.pid" 3<&- &
master=$!
trap 'kill "$master"; wait "$master"; exit 0' TERM
# whoever started this has ended
(
	cat <&3 >/dev/null
	kill "$master"
) &
wait "$master"
