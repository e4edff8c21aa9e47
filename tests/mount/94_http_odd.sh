#!/bin/bash
# provider = http: web servers whose answers are odd or wrong (tests/servers/web.py). What can be read is read right; what cannot
# fails, and the log says why. And directories of many names: nobody is asked for what nobody wants to see.
# timeout: 300
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
MNT=$T/mnt
start_web
BASE=http://127.0.0.1:$ODD_PORT OTHER=http://127.0.0.1:$ODD_PORT2
odd_ctl() { curl -sS --fail-with-body --noproxy '*' "$BASE/_ctl/$1"; }
# body NAME VERSION: what the server has
body() { python3 -c 'import random, sys; sys.stdout.buffer.write(random.Random(f"{sys.argv[1]}/{sys.argv[2]}").randbytes(300_000))' "$@"; }

{
    echo "Key,Url,Size"
    for what in ok/a cut/a/2 cut/b/99 changing/a changing-time/a chunked/a closed/a multipart/a shifted/a emptyhead/a busy/a/2 coded/a \
        chain/a/5 chain/a/6 away/a gone/a short/a; do
        echo "$what,$BASE/$what,"
    done
    echo "sized/chunked,$BASE/chunked/b,300000"
    echo "sized/closed,$BASE/closed/b,300000"
    echo "sized/wrong,$BASE/ok/b,300001"
    for n in $(seq -w 0 1199); do
        echo "many/$n,$OTHER/ok/n?v=$n,"
    done
} >"$T/list"
conf_http odd "$T/list" accessKeyId=us:er accessKeySecret=secret
nok "a user has no colon" mount_objmig odd "$MNT"
rm "$CONF"
conf_http odd "$T/list" accessKeyId=user accessKeySecret=secret requestTryCount=4
ok "mount" mount_objmig odd "$MNT" list_ttl=600,loglevel=debug

reads() { # KEY [NAME [VERSION]]
    if cmp "$MNT/$1" <(body "${2:-a}" "${3:-1}") 2>"$T/cmp"; then pass "$1"; else fail "$1" "$(cat "$T/cmp")" "$(tail -n 5 "$LOG")"; fi
}
fails() { # KEY REGEX: the log says why
    nok "$1 fails" cat "$MNT/$1"
    ok "$1: the log says why" grep -q "$2" "$LOG"
}
reads ok/a
reads cut/a/2
fails cut/b/99 'cut short'
reads multipart/a
reads short/a
fails shifted/a 'asked for .* bytes from 0, and got .* from 1'
reads emptyhead/a
reads busy/a/2
reads coded/a
is "coded/a: as it is coded" "$(getfattr --only-values --absolute-names -n user.objmig.content-encoding "$MNT/coded/a")" x-ours
is "coded/a: the server's MD5" "$(getfattr --only-values --absolute-names -n user.objmig.md5 "$MNT/coded/a")" "$(body a 1 | md5sum | cut -d' ' -f1)"
reads chain/a/5
fails chain/a/6 'is not followed: there were five before'
reads away/a
fails gone/a '410: list:17: the server refuses it'
fails chunked/a 'list:7: the server does not tell its size'
fails closed/a 'the server does not tell its size'
reads sized/chunked b
reads sized/closed b
fails sized/wrong 'the server has another size than the list says'

# ---- a version is a version

for kind in changing changing-time; do
    reads $kind/a a 1
done
umount_objmig "$MNT" && daemon_gone || die "the daemon stays"
ok "mount" mount_objmig odd "$MNT" list_ttl=600,loglevel=debug
exec 5<"$MNT/changing/a" 6<"$MNT/changing-time/a"
odd_ctl change
nok "another ETag is noticed" cat <&5
nok "another time is noticed" cat <&6
exec 5<&- 6<&-
umount_objmig "$MNT" && daemon_gone || die "the daemon stays"
ok "mount" mount_objmig odd "$MNT" list_ttl=600,loglevel=debug
for kind in changing changing-time; do
    reads $kind/a a 2
done

# ---- the password stays where the list sends it

odd_ctl seen >"$T/seen"
is "the listed host gets it" "$(awk '$3 == "/ok/a" { print $NF, $(NF - 1) }' "$T/seen" | grep -c "^$(printf user:secret | base64)")" "$(awk '$3 == "/ok/a"' "$T/seen" | wc -l)"
at_least "the other was asked" "$(grep -c "^$ODD_PORT2 [A-Z]* /ok/a?from=away" "$T/seen")" 2
is "and got none" "$(grep "^$ODD_PORT2 [A-Z]* /ok/a?from=away" "$T/seen" | grep -vc ' -$')" 0
nok "no log shows it" grep -e secret -e "$(printf user:secret | base64)" "$LOG"

# ---- many names

looked() { odd_ctl seen | grep -c ' HEAD /ok/n'; }
odd_ctl forget
is "names" "$(ls -U "$MNT/many" | wc -l)" 1200
is "cost nothing" "$(looked)" 0
is "one size" "$(stat -c %s "$MNT/many/0700")" 300000
is "costs one request" "$(looked)" 1
is "all sizes" "$(find "$MNT/many" -type f -size 300000c | wc -l)" 1200
is "cost one each" "$(looked)" 1200
is "and no more" "$(find "$MNT/many" -type f -size 300000c | wc -l) $(looked)" "1200 1200"
umount_objmig "$MNT"
done_testing
