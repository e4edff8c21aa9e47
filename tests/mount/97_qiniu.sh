#!/bin/bash
# Qiniu Kodo beside a local directory: copies in both directions, again, and over a killed daemon; what it says when something is wrong.
# timeout: 240
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
start_qiniu
Q=$T/m-qiniu DISK=$T/m-disk
conf_qiniu qiniu smallFileThreshold=1M bigFileUploadPartSize=1M bigFileExecutorNum=1
conf_local disk "$T/disk"
TTL=list_ttl=600

finished() { ok "$1: objmig wait" timeout 100 objmig wait -q "$2"; }
alike() { ok "$1" bash -c 'out=$(diff -r "$1" "$2" 2>&1); echo "$out" | head; [ -z "$out" ]' - "$2" "$3"; }
mark() { MARK=$(req_mark "$QINIU_LOG"); }
# What went out since the mark but for lists: OP:COUNT …
not_lists() {
    tail -n "+$((MARK + 1))" "$QINIU_LOG" | python3 -c 'import collections, json, sys
n = collections.Counter(e["op"] for e in map(json.loads, sys.stdin))
n.pop("List", None)
print(" ".join(f"{op}:{k}" for op, k in sorted(n.items())))'
}

# ---- a tree with names that are awkward somewhere

mkdir -p "$DISK" "$Q" "$T/disk/tree/한글 폴더/하나" "$T/disk/tree/a+b %41" "$T/disk/tree/-x/.hidden"
n=0
for dir in '' '한글 폴더/' '한글 폴더/하나/' 'a+b %41/' '-x/' '-x/.hidden/'; do
    for name in plain '100%' 'plus+plus' 'a?b#c&d=e' ' leading' 'trailing ' "quote'\"" 'back\slash' 'a;b,c:d@e' 'emoji 🎈'; do
        n=$((n + 1))
        echo "the bytes of $dir$name" >"$T/disk/tree/$dir$name"
    done
done
: >"$T/disk/tree/empty"
make_file "$T/disk/tree/three parts" $((5 * 512 << 10)) 3
chmod 750 "$T/disk/tree/plain"
is "files with awkward names" $n 60
ok "mount the disk" mount_objmig disk "$DISK" $TTL
ok "mount qiniu" mount_objmig qiniu "$Q" $TTL

ok "cp -a: disk -> qiniu" cp -a "$DISK/tree" "$Q/tree"
finished "disk -> qiniu" "$Q"
alike "the same through the mount" "$T/disk/tree" "$Q/tree"
is "as many objects as files" "$(qiniu_keys tree/ | grep -vc '/$')" $((n + 2))
is "the right bytes" "$(qiniu_stat 'tree/a+b %41/a?b#c&d=e' md5)" "$(md5_of "$T/disk/tree/a+b %41/a?b#c&d=e")"
is "their MD5 as an attribute" "$(qiniu_stat 'tree/a+b %41/a?b#c&d=e' meta.md5)" "$(md5_of "$T/disk/tree/a+b %41/a?b#c&d=e")"
is "three parts: their bytes" "$(qiniu_stat 'tree/three parts' md5)" "$(md5_of "$T/disk/tree/three parts")"
is "three parts: the MD5 of the whole" "$(qiniu_stat 'tree/three parts' meta.md5)" "$(md5_of "$T/disk/tree/three parts")"
is "three parts: so many" "$(req_count "$QINIU_LOG" PUT UploadPart)" 3
is "a mode" "$(stat -c %a "$Q/tree/plain")" 750
is "no upload is left" "$(qiniu_ctl GET uploads)" '[]'

mark
ok "cp -a again" cp -a "$DISK/tree/." "$Q/tree/"
finished "again" "$Q"
is "moves nothing" "$(not_lists | tr ' ' '\n' | grep -v '^Stat:' | xargs)" ''
is "rsync finds nothing to do" "$(rsync -ai "$DISK/tree/" "$Q/tree/" 2>&1 | head -n 5)" ''
finished "rsync" "$Q"
is "and moves nothing" "$(not_lists | tr ' ' '\n' | grep -v '^Stat:' | xargs)" ''

# ---- inside: the service copies

mark
ok "cp inside" cp -r "$Q/tree/한글 폴더" "$Q/inside"
ok "mv inside" mv "$Q/tree/-x" "$Q/moved"
chmod 700 "$Q/tree/plain"
setfattr -n user.note -v 'größer als 50%' "$Q/tree/plain"
finished "inside" "$Q"
matches "by copies" "$(not_lists)" 'Copy:'
is "and no byte through this machine" "$(not_lists | tr ' ' '\n' | grep -E 'GetObject|PutObject|UploadPart' | xargs)" ''
alike "the same" "$T/disk/tree/한글 폴더" "$Q/inside"
alike "the moved ones" "$T/disk/tree/-x" "$Q/moved"
is "a changed mode is metadata only" "$(qiniu_stat tree/plain md5)" "$(md5_of "$T/disk/tree/plain")"
ok "rm -r" rm -r "$Q/moved" "$Q/inside"
finished "rm -r" "$Q"
is "and it is gone" "$(qiniu_keys moved/)$(qiniu_keys inside/)" ''

# ---- back, by a daemon that knows nothing

umount_objmig "$Q"
umount_objmig "$DISK"
ok "the daemon ends" daemon_gone
OUTER_CACHE=$CACHE CACHE=$T/cache2
ok "mount the disk anew" mount_objmig disk "$DISK" $TTL
ok "mount qiniu anew" mount_objmig qiniu "$Q" $TTL
ok "cp -a: qiniu -> disk" cp -a "$Q/tree" "$DISK/back"
finished "qiniu -> disk" "$DISK"
rm -r "$T/disk/tree/-x"
alike "the same on the disk" "$T/disk/tree" "$T/disk/back"
is "the mode, too" "$(stat -c %a "$T/disk/back/plain")" 700
is "an attribute that is no ASCII" "$(getfattr --absolute-names --only-values -n user.note "$Q/tree/plain")" 'größer als 50%'

# ---- killed in the middle of parts

make_file "$T/large" $((12 << 20)) 12
mark
qiniu_fault '{"op":"UploadPart","action":"hold","skip":5,"count":0}'
cp "$T/large" "$Q/large" &
copier=$!
parts() { [ "$(SINCE=$MARK req_count "$QINIU_LOG" PUT UploadPart)" -ge 5 ]; }
ok "five parts are there" within 60 parts
wait $copier
ok "kill -9" kill_daemon KILL
qiniu_ctl DELETE faults >/dev/null
umount -l "$Q" "$DISK"
echo "frozen bytes" >"$T/frozen"
qiniu_put frozen "$T/frozen" type=2
ok "mount again" mount_objmig qiniu "$Q" $TTL
finished "after the kill" "$Q"
is "the right bytes" "$(qiniu_stat large md5)" "$(md5_of "$T/large")"
is "and MD5" "$(qiniu_stat large meta.md5)" "$(md5_of "$T/large")"
at_most "parts which went twice" "$(tail -n "+$((MARK + 1))" "$QINIU_LOG" | python3 -c 'import collections, json, sys
n = collections.Counter(e["path"].rsplit("/", 1)[1] for e in map(json.loads, sys.stdin) if e["op"] == "UploadPart" and e["status"] == 200)
assert len(n) == 12, n
print(sum(1 for k in n.values() if k > 1))')" 1
is "no upload is left" "$(qiniu_ctl GET uploads)" '[]'

# ---- throttled, corrupt, late, archived

qiniu_fault '{"op":"PutObject","action":"status","status":573,"count":2}'
qiniu_fault '{"op":"PutObject","action":"wrong_hash","count":1}'
qiniu_fault '{"op":"PutObject","action":"lost","count":1}'
echo "in the end" >"$Q/throttled"
finished "throttled, a wrong hash, a lost answer" "$Q"
is "arrives" "$(qiniu_stat throttled md5)" "$(echo "in the end" | md5sum | cut -c1-32)"
qiniu_ctl POST clock '{"offset_s":7200}' >/dev/null
echo "late" >"$Q/late"
finished "a clock that is two hours off" "$Q"
is "is learnt" "$(qiniu_stat late size)" 5
qiniu_ctl POST clock '{"offset_s":0}' >/dev/null
nok "an archived object is not read" cat "$Q/frozen"
matches "and the log says why" "$(grep -a frozen "$LOG" | tail -n 1)" 'archived.*restore it first'
umount_objmig "$Q"
ok "the daemon ends once more" daemon_gone

rm -f "$CONF"
conf_qiniu r
matches "doctor" "$(OBJMIG_CONFIG=$CONF objmig doctor --cache "$CACHE" 2>&1)" 'ok +remote \[r\].*ok +uploads of \[r\]: cannot be listed'

# ---- what is wrong is one line

# refused NAME REGEX [key=value …]
refused() {
    local name=$1 want=$2 text rc
    shift 2
    rm -f "$CONF"
    conf_qiniu r "$@"
    text=$(timeout 60 mount.objmig r "$Q" -o "config=$CONF,cache=$OUTER_CACHE,log=$LOG" 2>&1)
    rc=$?
    is "$name: status" "$rc:$(wc -l <<<"$text")" 1:1
    matches "$name: $text" "$text" "$want"
    nok "$name: without the secret" grep -qF -e "$QINIU_SK" -e wrongSecret <<<"$text"
}
refused "wrong secret" '\[r\].*401 BadToken.*accessKeySecret' accessKeySecret=wrongSecret
refused "wrong access key" '\[r\].*401.*accessKeyId' accessKeyId=nobody
refused "missing bucket" '\[r\].*631 NoSuchBucket.*bucket' bucket=missing
refused "wrong region" '\[r\].*631.*region' region=z9
refused "no domain" '\[r\] domain.*missing' domain=
refused "no region" '\[r\] region.*missing' region=
refused "unknown class" '\[r\] storageClass.*golden' storageClass=golden
refused "no server" '\[r\].*(connect|endPoint)' connectTo=127.0.0.1:1 requestTryCount=1
qiniu_fault '{"op":"List","action":"status","status":573,"count":0}'
refused "throttled for good" '\[r\].*573 TooManyRequests' requestTryCount=2
qiniu_ctl DELETE faults >/dev/null
done_testing
