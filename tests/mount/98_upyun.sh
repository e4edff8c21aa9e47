#!/bin/bash
# Upyun beside a local directory: both ways, twice, over a crash; and what it says when it cannot.
# timeout: 240
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
# Pages and lists of parts are short, so that there are several.
start_upyun --page 10 --parts-page 2
U=$T/m-upyun L=$T/m-local
mkdir -p "$T/store"
UPYUN="smallFileThreshold=1M bigFileUploadPartSize=1M"
conf_upyun up $UPYUN
conf_local loc "$T/store"

finished() { ok "$1: objmig wait" timeout 120 objmig wait -q "$2"; }
same() { ok "$1" bash -c 'out=$(diff -r --no-dereference "$1" "$2" 2>&1); echo "$out" | head; [ -z "$out" ]' - "$2" "$3"; }
# moved [OP …]: what of the requests since MARK carried or made something.
moved() {
    tail -n "+$((MARK + 1))" "$UPYUN_LOG" | python3 -c 'import collections, json, sys
n = collections.Counter(e["op"] for e in map(json.loads, sys.stdin))
print(" ".join(f"{op}:{k}" for op, k in sorted(n.items()) if op in sys.argv[1:]))' "$@"
}
BYTES="PutFile UploadPart CopyFile InitMultipart CompleteMultipart GetFile"

# ---- a tree with awkward names

SRC=$T/store/tree
mkdir -p "$SRC/deep/깊은/深/a b" "$SRC/empty" "$SRC/.hidden"
for name in 'a+b' '50%' '%41' 'c&d' 'x=y' '#1' "it's" 'say "hi"' '[1]' 'semi;colon' '~tilde' 'question?' 'star*' 'dollar$' 'back\slash' '<tag>' \
    'at@home' '한글 파일.txt' '图片.jpg' 'Ünïcödé' 'emoji 🎈' 'trailing ' ' leading' '...' '^2F up' 'a.' "$(printf 'l%.0s' {1..200})"; do
    echo "content of $name" >"$SRC/$name"
    echo "more of $name" >"$SRC/deep/깊은/深/a b/$name"
done
: >"$SRC/empty file"
ln -s 'a+b' "$SRC/link"
make_file "$SRC/three parts" 2600000 3
make_file "$SRC/deep/at the edge" 1048576 4
touch -d '2020-02-29 01:02:03.123456789' "$SRC/a+b"
chmod 640 "$SRC/a+b"

ok "mount local" mount_objmig loc "$L"
ok "mount upyun" mount_objmig up "$U"
ok "an attribute" setfattr -n user.colour -v 'blau grün' "$L/tree/a+b"
finished "an attribute" "$L"
ok "cp -a: local -> upyun" cp -a "$L/tree" "$U/tree"
finished "there" "$U"
same "there: it looks the same" "$SRC" "$U/tree"
wrong=$(upyun_ctl GET "objects/$UPYUN_BUCKET?prefix=tree/" | python3 -c 'import hashlib, json, os, sys, urllib.parse, urllib.request
root, url = sys.argv[1:]
seen = 0
for o in json.load(sys.stdin):
    path = os.path.join(root, o["key"])
    if os.path.islink(path):
        continue
    seen += 1
    want = hashlib.md5(open(path, "rb").read()).hexdigest()
    got = hashlib.md5(urllib.request.urlopen(url + urllib.parse.quote(o["key"])).read()).hexdigest()
    if got != want or o["meta"].get("md5") != want:
        print(o["key"], got, o["meta"].get("md5"), "want", want)
print(seen)' "$T/store" "http://127.0.0.1:$UPYUN_CONTROL/_ctl/object/$UPYUN_BUCKET/")
is "there: the provider has all bytes and their MD5" "$wrong" "$(find "$SRC" -type f | wc -l)"
is "there: three parts" "$(python3 -c 'import json, sys
print(sum(1 for e in map(json.loads, open(sys.argv[1])) if e["op"] == "UploadPart" and e["key"] == "tree/three parts"))' "$UPYUN_LOG")" 3
is "there: an attribute" "$(getfattr --absolute-names --only-values -n user.colour "$U/tree/a+b")" 'blau grün'
is "there: directories" "$(upyun_ctl GET "folders/$UPYUN_BUCKET")" '["tree","tree/.hidden","tree/deep","tree/deep/깊은","tree/deep/깊은/深","tree/deep/깊은/深/a b","tree/empty"]'

MARK=$(req_mark "$UPYUN_LOG")
ok "cp -a again" cp -a "$L/tree/." "$U/tree"
finished "again" "$U"
is "again: no byte moves" "$(moved $BYTES)" ''

# A daemon that knows nothing of it.
umount_objmig "$U" && umount_objmig "$L" && daemon_gone || die "the daemon does not end"
rm -rf "$CACHE"
ok "mount upyun anew" mount_objmig up "$U"
ok "mount local anew" mount_objmig loc "$L"
ok "cp -a: upyun -> local" cp -a "$U/tree" "$L/back"
finished "and back" "$L"
same "and back: it is the same" "$SRC" "$T/store/back"
is "and back: mode and time" "$(stat -c '%a %.9Y' "$T/store/back/a+b")" "$(stat -c '%a %.9Y' "$SRC/a+b")"
is "and back: an attribute" "$(getfattr --absolute-names --only-values -n user.colour "$L/back/a+b")" 'blau grün'

MARK=$(req_mark "$UPYUN_LOG")
ok "rsync -a by this daemon" rsync -a "$L/tree/" "$U/tree/"
finished "rsync" "$U"
is "rsync: nothing but a link is read" "$(moved $BYTES)" GetFile:1

# ---- attributes, renames, removal

MARK=$(req_mark "$UPYUN_LOG")
chmod 600 "$U/tree/c&d"
setfattr -n user.mime_type -v text/x-new "$U/tree/c&d"
mv "$U/tree/x=y" "$U/tree/deep/moved"
finished "changes" "$U"
is "changes: made by the provider" "$(moved $BYTES PatchMetadata)" 'CopyFile:1 PatchMetadata:1'
is "changes: mode" "$(upyun_stat 'tree/c&d' meta.mode)" 33152
is "changes: type" "$(upyun_stat 'tree/c&d' meta.objmig-content-type)" text/x-new
is "changes: moved" "$(upyun_cat tree/deep/moved)" 'content of x=y'
ok "rm -r" rm -r "$U/tree/deep"
finished "removal" "$U"
is "removal: nothing is left of it" "$(upyun_ctl GET "folders/$UPYUN_BUCKET")" '["tree","tree/.hidden","tree/empty"]'

# ---- a crash in the middle of an upload

upyun_fault '{"op":"UploadPart","skip":3,"action":"hold","count":0}'
make_file "$T/six" 6291456 6
MARK=$(req_mark "$UPYUN_LOG")
cp "$T/six" "$U/six"
held() { [ "$(upyun_ctl GET uploads | grep -o '"number"' | wc -l)" -ge 3 ]; }
ok "crash: three parts are there" within 60 held
ok "crash: kill -9" kill_daemon KILL
umount -l "$U"
umount -l "$L"
upyun_ctl DELETE faults >/dev/null
ok "crash: mount again" mount_objmig up "$U"
finished "crash" "$U"
is "crash: what was accepted is there" "$(upyun_cat six | md5sum | cut -d' ' -f1)" "$(md5_of "$T/six")"
is "crash: its MD5" "$(upyun_stat six meta.md5)" "$(md5_of "$T/six")"
is "crash: no part is taken twice" "$(tail -n "+$((MARK + 1))" "$UPYUN_LOG" | python3 -c 'import collections, json, sys
n = collections.Counter((e["upload"], e["part"]) for e in map(json.loads, sys.stdin) if e["op"] == "UploadPart" and e["status"] == 204)
print(len({u for u, _ in n}), len(n), max(n.values()))')" '1 6 1'
is "crash: nothing is left behind" "$(upyun_ctl GET uploads)" '[]'

# ---- what cannot be

nok "a key it does not take: refused" touch "$U/tab^09here"
echo x >"$U/tree^2F"
timeout 60 objmig wait -q "$U"
is "an object beside a directory of its name: it fails" $? 2
matches "and why is told" "$(objmig errors "$U")" 'directory of that name'
rm "$U/tree^2F"
finished "taken back" "$U"

upyun_fault '{"op":"PutFile","action":"status","status":429,"code":42900001,"message":"too many requests","count":3}'
echo patience >"$U/throttled"
finished "throttled" "$U"
is "throttled: it arrives" "$(upyun_cat throttled)" patience
umount_objmig "$U" && daemon_gone || die "the daemon does not end"

refused() { # NAME REGEX
    local said rc
    said=$(timeout 100 mount.objmig r "$U" -o "config=$CONF,cache=$CACHE,log=$LOG" 2>&1)
    rc=$?
    if [ $rc = 1 ] && [ "$(wc -l <<<"$said")" = 1 ] && [[ $said =~ $2 ]] && [[ $said != *wrongSecret* ]]; then
        pass "$1: $said"
    else
        fail "$1" "status $rc; one line which matches $2 is wanted" "$said"
    fi
}
bad() { rm -f "$CONF"; conf_upyun r "$@"; }
bad accessKeySecret=wrongSecret
refused "wrong password" '\[r\].*accessKeySecret'
bad accessKeyId=nobody
refused "wrong operator" '\[r\].*accessKeyId'
bad bucket=missing
refused "missing service" '\[r\].*bucket'
bad region=x
refused "a key that means nothing there" '\[r\].*region'
bad minPartSize=1500000
refused "parts of a size it does not take" '\[r\].*minPartSize'
upyun_ctl POST clock '{"offset_s":7200}' >/dev/null
bad
ok "a clock that is wrong is learnt" mount_objmig r "$U"
ok "it works" ls "$U/tree"
upyun_ctl POST clock '{"offset_s":0}' >/dev/null
umount_objmig "$U" && daemon_gone || die "the daemon does not end"
doctor() { timeout 60 objmig doctor --config "$CONF" --cache "$CACHE" 2>&1 | grep -F '[r]'; }
is "doctor finds the remote in order" "$(doctor | cut -d' ' -f1 | sort -u)" ok
matches "doctor asks it" "$(doctor)" 'remote \[r\]: upyun:test-service answers'
bad accessKeySecret=wrongSecret
matches "doctor finds a wrong password" "$(doctor)" 'FAIL +remote \[r\]: credentials: .*check accessKeySecret'
done_testing
