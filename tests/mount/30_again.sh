#!/bin/bash
# Interrupted copies, done again: what is finished moves no byte, what is half done goes on at its parts, and what is all done costs
# listings only.
# timeout: 600
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
need_rgw
start_cos
start_proxy "127.0.0.1:$RGW_PORT"
BUCKET=$(new_bucket) || die "no bucket"
S3=$T/m-s3 COS=$T/m-cos
conf_s3 s3 "$BUCKET" "connectTo=127.0.0.1:$PROXY_PORT"
conf_cos cos bigFileUploadPartSize=8M
FILES=1500
# Nobody else writes: what was listed stays true however slow the machine is. Older sights get one HEAD each (rules D4).
TTL=list_ttl=600

# As at a terminal: a shell without job control has its background commands ignore Ctrl-C.
interruptible() { env --default-signal=INT "$@" & }
mark() { COS_MARK=$(req_mark "$COS_LOG") S3_MARK=$(req_mark "$PROXY_LOG"); }
since_cos() { SINCE=$COS_MARK req_count "$COS_LOG" "$@"; }
since_s3() { SINCE=$S3_MARK req_count "$PROXY_LOG" "$@"; }
# Both logs since the mark, but for listings: what must not be there.
not_lists() {
    { tail -n "+$((COS_MARK + 1))" "$COS_LOG"; tail -n "+$((S3_MARK + 1))" "$PROXY_LOG"; } | python3 -c 'import collections, json, sys
n = collections.Counter(e["op"] for e in map(json.loads, sys.stdin))
n.pop("GetBucket", None)
print(" ".join(f"{op}:{k}" for op, k in sorted(n.items())))'
}
# keys of successful requests of one op in the COS log since the mark, with their number each: "count key"
twice() { tail -n "+$((COS_MARK + 1))" "$COS_LOG" | python3 -c 'import collections, json, sys
n = collections.Counter(e["key"] for e in map(json.loads, sys.stdin) if e["op"] == "PutObject" and e["body"])
print(sum(1 for k in n.values() if k > 1))'; }
# Bytes of UploadPart, and how many part numbers of a key went through more than once.
part_bytes() { SINCE=$COS_MARK req_bytes "$COS_LOG" req_bytes UploadPart; }
parts_twice() { tail -n "+$((COS_MARK + 1))" "$COS_LOG" | python3 -c 'import collections, json, sys, urllib.parse
n = collections.Counter()
for e in map(json.loads, sys.stdin):
    if e["op"] == "UploadPart" and e["status"] == 200:
        n[urllib.parse.parse_qs(e["query"])["partNumber"][0]] += 1
print(sum(1 for k in n.values() if k > 1))'; }
same() { ok "$1" bash -c 'out=$(diff -r "$1" "$2" 2>&1); echo "$out" | head; [ -z "$out" ]' - "$2" "$3"; }
finished() { ok "$1: objmig wait" timeout 300 objmig wait -q "$COS"; }

mkdir -p "$T/src/한국어 폴더"
for i in $(seq $FILES); do
    d=$((i % 7))
    [ -d "$T/src/dir $d" ] || mkdir "$T/src/dir $d"
    echo "content of file $i" >"$T/src/dir $d/file $i.txt"
done
echo hello >"$T/src/한국어 폴더/안녕.txt"
: >"$T/src/empty file"
mkdir "$T/src/empty directory"
# The source comes from a daemon of its own: this one knows nothing of it.
make_file "$T/large" $((200 << 20)) 7
OUTER_CACHE=$CACHE
CACHE=$T/cache0
mount_objmig s3 "$S3" && cp -a "$T/src" "$S3/src" && cp "$T/large" "$S3/large" && objmig wait -q "$S3" && umount_objmig "$S3" && daemon_gone || die "no source"
CACHE=$OUTER_CACHE
ok "mount s3" mount_objmig s3 "$S3" $TTL
ok "mount cos" mount_objmig cos "$COS" $TTL

# ---- Ctrl-C in the middle of cp -r

# Some directories are not listed before it is interrupted: it cannot come to its end.
proxy_fault '{"op":"GetBucket","query":"prefix=src%2Fdir","skip":4,"action":"hold","count":0}'
mark
interruptible cp -r "$S3/src" "$COS/tree"
pid=$!
within 60 bash -c '[ $(ls "$1" | wc -l) -ge 2 ] && [ $(find "$1" -type f | head -n 300 | wc -l) -ge 300 ]' - "$COS/tree"
kill -INT $pid
wait $pid
is "Ctrl-C ends cp" $? 130
proxy_ctl DELETE faults >/dev/null
finished "interrupted"
first=$(find "$COS/tree" -type f | wc -l)
at_least "some files were copied" "$first" 300
at_most "but not all" "$first" $((FILES - 1))

ok "cp -r again" cp -rT "$S3/src" "$COS/tree"
finished "again"
same "everything is there" "$T/src" "$COS/tree"
at_most "finished files moved no byte to COS" "$(twice)" 1
# One that cp had open when it was interrupted may come again.
at_most "nor out of S3" "$(SINCE=$S3_MARK req_count "$PROXY_LOG" GET GetObject)" $((FILES + 2))

# ---- a third run

mark
ok "cp -r a third time" cp -rT "$S3/src" "$COS/tree"
finished "third"
is "the third run issues only LISTs" "$(not_lists)" ''
mark
umount_objmig "$S3" && umount_objmig "$COS" && daemon_gone
ok "mount again" mount_objmig s3 "$S3" $TTL
ok "and cos" mount_objmig cos "$COS" $TTL
ok "cp -r by a new daemon" cp -rT "$S3/src" "$COS/tree"
finished "new daemon"
is "a new daemon's run issues only LISTs" "$(not_lists)" ''

# ---- rsync

ok "rsync -a" rsync -a "$S3/src/" "$COS/rsync/"
finished "rsync"
same "rsync: everything is there" "$T/src" "$COS/rsync"
mark
ok "rsync -a a second time" rsync -a "$S3/src/" "$COS/rsync/"
finished "rsync again"
is "zero HEAD, zero GET, zero PUT" "$(not_lists)" ''
umount_objmig "$S3" && umount_objmig "$COS" && daemon_gone
ok "mount again" mount_objmig s3 "$S3" $TTL
ok "and cos" mount_objmig cos "$COS" $TTL
mark
is "rsync -a by a new daemon finds nothing to do" "$(rsync -ai "$S3/src/" "$COS/rsync/" 2>&1 | head -n 5)" ''
finished "rsync by a new daemon"
is "again no HEAD, GET, PUT" "$(not_lists)" ''

# ---- a large object, half copied: between providers

parts_done() { [ "$(since_cos PUT UploadPart)" -ge "$1" ]; }
mark
cos_fault '{"op":"UploadPart","action":"delay","ms":1500,"count":0}'
interruptible cp "$S3/large" "$COS/large"
pid=$!
within 100 parts_done 6 || fail "parts go out" "$(since_cos PUT UploadPart) of them"
kill -INT $pid 2>/dev/null
wait $pid
ok "cp again over the half-copied object" cp "$S3/large" "$COS/large"
cos_ctl DELETE faults >/dev/null
finished "large"
is "large: the right bytes" "$(cos_stat large md5)" "$(md5_of "$T/large")"
is "large: and MD5" "$(cos_stat large meta.md5)" "$(md5_of "$T/large")"
at_most "large: parts which went twice" "$(parts_twice)" 1
at_most "large: bytes sent" "$(part_bytes)" $((216 << 20))
is "large: no upload is left" "$(cos_ctl GET uploads)" '[]'
mark
ok "large: cp once more" cp "$S3/large" "$COS/large"
finished "large, once more"
is "large: which moves nothing" "$(not_lists)" ''

# ---- a large file from local disk, cp interrupted while it writes

mark
cos_fault '{"op":"UploadPart","action":"delay","ms":300,"count":0}'
interruptible cp "$T/large" "$COS/local"
pid=$!
within 60 bash -c '[ "$(stat -c %s "$1")" -gt 20000000 ]' - "$COS/local"
kill -INT $pid 2>/dev/null
wait $pid
status=$?
at_most "large from disk: half of it is there" "$(stat -c %s "$COS/local")" $((200 << 20))
finished "large from disk, interrupted"
# What cp had written is a file as any other; its whole parts need not go again (rules D8).
half=$(cos_stat local size)
at_least "large from disk: some whole parts are there" "$half" $((8 << 20))
mark
ok "large from disk: cp again ($status before)" cp "$T/large" "$COS/local"
cos_ctl DELETE faults >/dev/null
finished "large from disk"
is "large from disk: the right bytes" "$(cos_stat local md5)" "$(md5_of "$T/large")"
at_most "large from disk: parts already there did not go again" "$(part_bytes)" $(((200 << 20) - half / (8 << 20) * (8 << 20)))
mark
ok "large from disk: cp a third time" cp "$T/large" "$COS/local"
finished "large from disk, third"
is "large from disk: no byte moves" "$(part_bytes)" 0
is "large from disk: still the right bytes" "$(cos_stat local md5)" "$(md5_of "$T/large")"
is "no upload is left" "$(cos_ctl GET uploads)" '[]'
done_testing
