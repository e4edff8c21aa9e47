#!/bin/bash
# Azure Blob, by real tools and against Azurite: a tree in both directions, nothing moved twice, copies by the server, an upload that
# is killed and goes on, and what is said when the provider refuses.
# timeout: 300
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
start_azure
start_proxy "127.0.0.1:$AZURE_PORT"
AZ=$T/az NAS=$T/nas-mount
CONTENTS=$T/nas # of the directory itself
conf_azure az "endPoint=http://127.0.0.1:$PROXY_PORT/$AZURE_ACCOUNT" bigFileUploadPartSize=4M bigFileExecutorNum=2
conf_local nas "$CONTENTS"
TTL=list_ttl=600

# Behind the mounts' back, by the SAS: az METHOD KEY[?QUERY] [curl option …]
az() {
    local method=$1 what=$2 key query
    shift 2
    key=${what%%\?*} query=
    [ "$key" = "$what" ] || query=${what#*\?}
    curl -sSg --fail-with-body --noproxy '*' $([ "$method" = HEAD ] && echo -I || echo "-X $method") -H 'x-ms-version: 2021-12-02' "$@" \
        "$AZURE_ENDPOINT/$AZURE_CONTAINER/$(urlencode "$key")?${query:+$query&}$AZURE_SAS"
}
header() { az HEAD "$1" | tr -d '\r' | awk -F': ' -v n="$2" 'tolower($1) == n { print $2 }'; }
# Requests since the mark: requests METHOD REGEX-OF-THE-QUERY
mark() { MARK=$(req_mark "$PROXY_LOG"); }
requests() {
    tail -n "+$((MARK + 1))" "$PROXY_LOG" | python3 -c 'import json, re, sys
print(sum(1 for e in map(json.loads, sys.stdin) if e["method"] == sys.argv[1] and re.search(sys.argv[2], e["query"])))' "$1" "$2"
}
# How many of the six blocks came more than once. A block that was on its way when the daemon was killed may have arrived whole,
# with nobody left to see the answer (status 0): then it is listed, and is not sent again.
parts_twice() {
    tail -n "+$((MARK + 1))" "$PROXY_LOG" | python3 -c 'import collections, json, sys, urllib.parse
n = collections.Counter()
for e in map(json.loads, sys.stdin):
    q = urllib.parse.parse_qs(e["query"])
    if q.get("comp") == ["block"] and e["status"] == 201:
        n[q["blockid"][0]] += 1
print(sum(k - 1 for k in n.values()) if 4 <= len(n) <= 6 else f"of {len(n)} parts")'
}
not_lists() {
    tail -n "+$((MARK + 1))" "$PROXY_LOG" | python3 -c 'import json, sys
print(sum(1 for e in map(json.loads, sys.stdin) if "comp=list" not in e["query"]))'
}
finished() { ok "$1: objmig wait" timeout 100 objmig wait -q "$AZ"; }
same() { ok "$1" bash -c 'out=$(diff -r "$1" "$2" 2>&1); echo "$out" | head; [ -z "$out" ]' - "$2" "$3"; }

mkdir -p "$T/tree/sub dir/deep" "$T/tree/한국어 폴더" "$T/tree/empty directory"
n=0
for name in 'plain' ' leading' 'trailing ' '+plus+' '50%' '%2F' '100%25 off' 'a?b#c' 'a;b,c:d@e=f' 'a&b' '<tag>"&amp;' "it's" '$~!(){}[]|`' \
    '^2F' '-dash' '.hidden' 'a..b' '안녕' 'emoji 🎈' 'é' '*'; do
    for dir in . 'sub dir/deep' '한국어 폴더'; do
        n=$((n + 1))
        echo "content $n" >"$T/tree/$dir/$name"
    done
done
: >"$T/tree/empty file"
make_file "$T/tree/sub dir/three parts" $((9 << 20)) 3
LARGE=$(md5_of "$T/tree/sub dir/three parts")
chmod 640 "$T/tree/plain"
touch -d '2001-02-03 04:05:06.789' "$T/tree/plain"

ok "mount az" mount_objmig az "$AZ" $TTL
ok "mount nas" mount_objmig nas "$NAS" $TTL
cp -a "$T/tree" "$CONTENTS/tree"

# ---- local -> Azure

mark
ok "cp -a of $n files: local -> Azure" cp -a "$NAS/tree" "$AZ/"
finished "local -> Azure"
is "the parts of one object" "$(requests PUT 'comp=block&')" 3
is "are one commit" "$(requests PUT 'comp=blocklist')" 1
is "that has all its metadata" "$(requests PUT 'comp=metadata|comp=properties')" 0
is "the MD5 attribute" "$(header 'tree/sub dir/three parts' x-ms-meta-md5)" "$LARGE"
is "and the property" "$(header 'tree/sub dir/three parts' content-md5 | base64 -d | od -An -tx1 | tr -d ' \n')" "$LARGE"
ok "its bytes" cmp "$T/tree/sub dir/three parts" <(az GET 'tree/sub dir/three parts')
ok "a key with a name of its own" cmp "$T/tree/한국어 폴더/100%25 off" <(az GET 'tree/한국어 폴더/100%25 off')
matches "the time in the name that others use" "$(header tree/plain x-ms-meta-mtime)" '^981173106\.789'

mark
ok "cp -a again" cp -a "$NAS/tree" "$AZ/"
ok "rsync -a" rsync -a "$NAS/tree/" "$AZ/tree/"
finished "again"
is "only lists" "$(not_lists)" 0

# ---- Azure -> local, by a daemon that knows nothing

umount_objmig "$AZ" && umount_objmig "$NAS" && daemon_gone || die "no end"
CACHE=$T/cache2
ok "mount az again" mount_objmig az "$AZ" $TTL
ok "mount nas again" mount_objmig nas "$NAS" $TTL
same "the same tree" "$T/tree" "$AZ/tree"
is "its mode" "$(stat -c %a "$AZ/tree/plain")" 640
ok "cp -a: Azure -> local" cp -a "$AZ/tree" "$NAS/back"
ok "objmig wait" timeout 100 objmig wait -q "$NAS"
same "Azure -> local" "$T/tree" "$CONTENTS/back"
is "the MD5 attribute is shown" "$(getfattr --absolute-names --only-values -n user.objmig.md5 "$AZ/tree/sub dir/three parts")" "$LARGE"

# ---- the provider copies

mark
ok "cp inside" cp -a "$AZ/tree/sub dir" "$AZ/copied"
finished "inside"
is "no byte came here" "$(requests GET '^$')" 0
is "nor went out" "$(requests PUT 'comp=block')" 0
same "the copy" "$T/tree/sub dir" "$AZ/copied"
is "its MD5 attribute" "$(header 'copied/three parts' x-ms-meta-md5)" "$LARGE"
mark
ok "another mode" chmod 600 "$AZ/copied/three parts"
finished "chmod"
is "is one change of metadata" "$(requests PUT '') $(requests PUT 'comp=metadata')" "1 1"
ok "other headers" setfattr -n user.mime_type -v text/x-new "$AZ/copied/three parts"
finished "setfattr"
is "the type" "$(header 'copied/three parts' content-type)" text/x-new
is "and the MD5 is kept" "$(header 'copied/three parts' content-md5 | base64 -d | od -An -tx1 | tr -d ' \n')" "$LARGE"
ok "the bytes are" cmp "$T/tree/sub dir/three parts" <(az GET 'copied/three parts')

# ---- names it would change

nok "no backslash" touch "$AZ/back\\slash"
nok "no '.' at the end" mkdir "$AZ/dir."
ok "which the log explains" within 20 grep -q "Azure drops a '.' at the end" "$LOG"

# ---- killed in the middle of an upload

make_file "$T/killed" $((24 << 20)) 5
proxy_fault '{"method":"PUT","query":"comp=block&","skip":3,"action":"hold","count":0}'
mark
cp "$T/killed" "$AZ/killed" || fail "cp"
three() { [ "$(requests PUT 'comp=block&')" = 3 ]; }
ok "three parts of six are there" within 60 three
parts_known() { [ "$(sqlite3 -readonly "$CACHE/journal.db" 'SELECT count(*) FROM part')" -ge 2 ]; }
ok "and known to be" within 60 parts_known
ok "kill -9" kill_daemon KILL
proxy_ctl DELETE faults >/dev/null
umount -l "$AZ" "$NAS" 2>/dev/null
ok "mount after that" mount_objmig az "$AZ" $TTL
finished "resumed"
at_most "parts that went through twice" "$(parts_twice)" 1
ok "its bytes" cmp "$T/killed" <(az GET killed)
is "its MD5 attribute" "$(header killed x-ms-meta-md5)" "$(md5_of "$T/killed")"

# ---- refusals that pass

proxy_fault '{"method":"PUT","path":"/busy$","action":"status","status":503,"count":2,"headers":{"Retry-After":"1","x-ms-error-code":"ServerBusy"},"body":"<Error><Code>ServerBusy</Code><Message>The server is busy.</Message></Error>"}'
mark
echo busy >"$AZ/busy"
finished "throttled"
is "it was tried again" "$(tail -n "+$((MARK + 1))" "$PROXY_LOG" | grep -c '/busy"')" 3
proxy_fault "{\"method\":\"PUT\",\"path\":\"/late\$\",\"action\":\"status\",\"status\":403,\"headers\":{\"Date\":\"$(date -u -d '+1 hour' '+%a, %d %b %Y %H:%M:%S GMT')\",\"x-ms-error-code\":\"AuthenticationFailed\"}}"
echo late >"$AZ/late"
finished "another clock"
is "it arrived" "$(az GET late)" late
ok "and the clock was learnt" grep -q 'remote=az clock_offset_s=3[56]' "$LOG"
proxy_fault '{"method":"PUT","path":"/lost$","action":"drop"}'
echo lost >"$AZ/lost"
finished "a lost answer"
is "is looked up or sent again" "$(az GET lost)" lost

# ---- an archived object

az PUT 'cold' -H 'x-ms-blob-type: BlockBlob' --data-binary cold >/dev/null || die "no cold"
az PUT 'cold?comp=tier' -H 'x-ms-access-tier: Archive' -H 'Content-Length: 0' >/dev/null || die "no tier"
umount_objmig "$AZ" && daemon_gone || die "no end"
ok "mount with a new view" mount_objmig az "$AZ" $TTL
ok "and the other" mount_objmig nas "$NAS" $TTL
ok "it is listed" test -e "$AZ/cold"
nok "it cannot be read" cat "$AZ/cold"
cp "$AZ/cold" "$NAS/cold" 2>/dev/null
timeout 60 objmig wait -q "$NAS" 2>/dev/null
matches "why, in one line" "$(objmig errors "$NAS"; grep -h 'archived' "$LOG")" 'is archived \(Archive\): restore it first'
umount -l "$AZ" "$NAS"
kill_daemon KILL

# ---- what is said at the mount

refused() {
    local name=$1 want=$2 text rc
    text=$(timeout 100 mount.objmig r "$AZ" -o "config=$T/r.conf,cache=$T/cache3,log=$LOG" 2>&1)
    rc=$?
    if [ $rc = 1 ] && [ "$(wc -l <<<"$text")" = 1 ] && grep -qE "$want" <<<"$text" && ! grep -qF -e "$AZURE_KEY" -e wrongSecret <<<"$text"; then
        pass "$name: $text"
    else
        fail "$name" "status $rc; one line that matches $want is wanted" "$text"
    fi
}
write() { rm -f "$T/r.conf"; CONF=$T/r.conf conf_azure r "$@"; }
write "accessKeySecret=$(printf wrongSecret | base64)"
refused "a wrong key" '\[r\].*403.*accessKeySecret'
write accessKeySecret=not-base64
refused "a key that is none" '\[r\] accessKeySecret: .*base64'
write bucket=missing
refused "no such container" '\[r\].*404.*bucket'
write accessKeySecret= "sasToken=${AZURE_SAS/sig=/sig=A}"
refused "a wrong SAS" '\[r\].*403'
write accessKeySecret=
refused "neither key nor SAS" '\[r\] accessKeySecret: missing.*sasToken'
write "sasToken=$AZURE_SAS"
refused "both" '\[r\] securityToken: .*keep one'
write region=eu
refused "a region" '\[r\] region: means nothing with provider = azure'

done_testing
