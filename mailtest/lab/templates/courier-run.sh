#!/usr/bin/env bash
# Runs in mounts and process numbers of its own. Courier has its paths compiled in; here they lead into our folder and the
# unpacked packages. The machine gets no more than two empty folders to mount on.
set -e
d={{.Host.Dir}} opt={{.Opt}}
mount --make-rprivate /
mkdir -p /etc/courier /usr/lib/courier-authlib
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/courier
mount --bind "$d/run" /run/courier
mount --bind "$d/etc" /etc/courier
mount --bind "$opt/usr/lib/courier-authlib" /usr/lib/courier-authlib
# couriertls insists on a user for STARTTLS, and gamin (IDLE) on a name for the owner of the Maildirs
{ grep -v ^courier: /etc/passwd; echo "courier:x:{{.Host.MailID}}:{{.Host.MailID}}::/:/bin/false"; } >"$d/etc/passwd"
{ grep -v ^courier: /etc/group; echo "courier:x:{{.Host.MailID}}:"; } >"$d/etc/group"
mount --bind "$d/etc/passwd" /etc/passwd
mount --bind "$d/etc/group" /etc/group
export {{.Libraries}} PATH=$opt/usr/sbin:$opt/usr/bin:$PATH
lib=$opt/usr/lib/courier
for f in userdb userdbshadow; do
	"$lib/courier-authlib/makedatprog" - "$d/etc/$f.tmp" "$d/etc/$f.dat" <"$d/etc/$f.txt"
done
chmod 0600 "$d/etc/userdbshadow.dat"
cat >"$d/etc/authdaemonrc" <<'RC'
authmodulelist="authuserdb"
authmodulelistorig="authuserdb"
daemons=3
authdaemonvar=/run/courier/authdaemon
DEBUG_LOGIN=0
DEFAULTOPTIONS=""
LOGGEROPTS=""
RC
set -a
. "$d/etc/courier.env"
set +a
umask "$IMAP_UMASK"
exec 3<&0 </dev/null
cat <&3 >/dev/null & # ends when whoever started this has ended
exec 3<&-
(
	set -a
	. "$d/etc/authdaemonrc"
	exec "$lib/courier-authlib/authdaemond"
) &
tcpd="$opt/usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=3000 -maxperip=${MAXPERIP:-20000} -maxperc=20000 -nodnslookup -noidentlookup"
# STARTTLS is not for the port that is encrypted already
IMAP_STARTTLS=NO IMAP_TLS=1 $tcpd {{.Host.IMAPS}} "$COURIERTLS" -server -tcpd -user=courier "$lib/courier/imaplogin" "$opt/usr/bin/imapd" Maildir &
$tcpd {{.Host.IMAP}} "$lib/courier/imaplogin" "$opt/usr/bin/imapd" Maildir &
POP3_STARTTLS=YES $tcpd {{.Host.POP3}} "{{.Pop3}}/courierpop3login" "{{.Pop3}}/courierpop3d" Maildir &
trap 'exit 0' TERM INT # the first process of its kind: all others end with it
# whatever ends first ends all
wait -n
exit 1
