# What a mount does at any provider whose server is one on rest.mjs. A script sets NAME (gcs, bos), OBJECTS (its bucket), REQUESTS (its log),
# CONTROL (its control port) and SECRETS, defines conf SECTION [key=value …], and calls these in order. Sourced after lib.sh.

NAS=$T/nas
MNT=$T/mnt
at_server() { _ctl "$CONTROL" GET "objects/$OBJECTS" | python3 "$TESTS_DIR/lib/check_tree.py" "$1" "$2"; }
server_stat() { _ctl "$CONTROL" GET "stat/$OBJECTS/$(urlencode "$1")?field=$2"; }
server_fault() { _ctl "$CONTROL" POST fault "$1" >/dev/null || die "bad fault: $1"; }
no_faults() { _ctl "$CONTROL" DELETE faults >/dev/null; }
# server_put KEY FILE [curl option …]: behind the mount's back.
server_put() {
    local key=$1 file=$2
    shift 2
    curl -sSg --fail-with-body --noproxy '*' -X PUT -H 'Content-Type:' --data-binary "@$file" "$@" \
        "http://127.0.0.1:$CONTROL/_ctl/object/$OBJECTS/$(urlencode "$key")" >/dev/null
}
# finished NAME [STATUS]: all that was copied has come to its end.
finished() {
    timeout 120 objmig wait -q "$MNT"
    is "$1: objmig wait" $? "${2:-0}"
}
same_tree() { diff -r --no-dereference "$1" "$2"; }
fresh_mount() {
    umount_objmig "$MNT" && daemon_gone || return 1
    rm -rf "$CACHE"
    mount_objmig all "$MNT"
}

# ~60 files with names that paths, URLs, JSON and XML trip over, one of three parts, empty ones, times and modes.
provider_tree() {
    local i name
    mkdir -p "$NAS/src/empty directory" "$NAS/src/한국어 폴더/deep/er" "$NAS/src/plain"
    for i in $(seq 30); do
        echo "content of file $i" >"$NAS/src/plain/file $i.txt"
    done
    for name in 'a+b' '50%' '%2F' '100%25 off' 'a?b#c' 'a;b,c:d=e' 'at@sign' "quote'\"" '<tag>&amp;' 'back\slash' ' lead' 'trail ' '*' '$~!(){}[]|`' \
        '안녕.txt' 'emoji 🎈' '...' '.hidden' 'CON' "$(printf 'x%.0s' $(seq 200))"; do
        echo "$name" >"$NAS/src/한국어 폴더/$name"
    done
    : >"$NAS/src/empty file"
    echo '{}' >"$NAS/src/한국어 폴더/deep/er/x.json"
    make_file "$NAS/src/three parts.bin" $((12 << 20)) 3
    chmod 640 "$NAS/src/empty file"
    touch -d '2020-02-03 04:05:06.123456789' "$NAS/src/plain/file 1.txt"
    conf cloud bigFileUploadPartSize=5M
    conf_local nas "$NAS"
    ok "mount" mount_objmig all "$MNT"
}

# Both directions, the attributes, and that it is all recognised when it comes again.
provider_both_ways() {
    local mark what
    ok "cp -a: local to $NAME" cp -a "$MNT/nas/src" "$MNT/cloud/"
    finished "local to $NAME"
    ok "every object, with its MD5" at_server "$NAS/src" src/
    is "the large one came in three parts" "$(req_count "$REQUESTS" PUT UploadPart)" 3
    is "its MD5 is an attribute" "$(server_stat 'src/three parts.bin' meta.md5)" "$(md5_of "$NAS/src/three parts.bin")"
    matches "mtime, as other tools write it" "$(server_stat 'src/plain/file 1.txt' meta.mtime)" "^$(stat -c %Y "$NAS/src/plain/file 1.txt")\.123456789"
    mark=$(req_mark "$REQUESTS")
    ok "cp -a again" cp -a "$MNT/nas/src" "$MNT/cloud/"
    ok "rsync -a" rsync -a "$MNT/nas/src/" "$MNT/cloud/src/"
    finished "again"
    for what in PutObject UploadPart CompleteMultipartUpload CopyObject GetObject; do
        is "which sends no $what" "$(SINCE=$mark req_count "$REQUESTS" '*' "$what")" 0
    done

    ok "a new cache" fresh_mount
    ok "$NAME shows the same bytes" same_tree "$NAS/src" "$MNT/cloud/src"
    is "and times" "$(stat -c %.9Y "$MNT/cloud/src/plain/file 1.txt")" "$(stat -c %.9Y "$NAS/src/plain/file 1.txt")"
    is "and modes" "$(stat -c %a "$MNT/cloud/src/empty file")" 640
    is "and the MD5" "$(getfattr --absolute-names --only-values -n user.objmig.md5 "$MNT/cloud/src/three parts.bin")" "$(md5_of "$NAS/src/three parts.bin")"
    ok "cp -r: $NAME to local" cp -r "$MNT/cloud/src" "$MNT/nas/back"
    finished "$NAME to local"
    ok "the same bytes there" same_tree "$NAS/src" "$NAS/back"

    mark=$(req_mark "$REQUESTS")
    ok "a copy within $NAME" cp "$MNT/cloud/src/three parts.bin" "$MNT/cloud/src/again.bin"
    finished "within $NAME"
    is "moves no byte" "$(SINCE=$mark req_bytes "$REQUESTS" req_bytes PutObject)/$(SINCE=$mark req_bytes "$REQUESTS" req_bytes UploadPart)" 0/0
    at_least "the provider copies" "$(SINCE=$mark req_count "$REQUESTS" PUT CopyObject)" 1
    ok "the same bytes" bash -c "[ '$(server_stat 'src/again.bin' md5)' = '$(md5_of "$NAS/src/three parts.bin")' ]"
    ok "with the MD5" bash -c "[ '$(server_stat 'src/again.bin' meta.md5)' = '$(md5_of "$NAS/src/three parts.bin")' ]"
    ok "setting an attribute" setfattr -n user.colour -v blue "$MNT/cloud/src/again.bin"
    ok "rm" rm -r "$MNT/cloud/src/한국어 폴더"
    finished "changes"
    is "what was removed is gone" "$(_ctl "$CONTROL" GET "objects/$OBJECTS" | grep -c '한국어 폴더/')" 0
}

# Requests of one part, answered with success, since the mark: "how many, how many numbers more than once"
parts_sent() {
    tail -n "+$(($1 + 1))" "$REQUESTS" | python3 -c 'import collections, json, sys, urllib.parse
n = collections.Counter(urllib.parse.parse_qs(e["query"])["partNumber"][0] for e in map(json.loads, sys.stdin)
                        if e["op"] == "UploadPart" and e["status"] == 200)
print(sum(n.values()), sum(k > 1 for k in n.values()))'
}
parts_are() { [ "$(parts_sent "$1")" = "$2" ]; }

# kill -9 while the third of five parts hangs.
provider_killed() {
    local mark total twice
    make_file "$NAS/five" $((25 << 20)) 5
    mark=$(req_mark "$REQUESTS")
    server_fault '{"op":"UploadPart","query":"partNumber=3(&|$)","action":"hold","count":0}'
    ok "cp of five parts" cp "$NAS/five" "$MNT/cloud/five"
    ok "four arrive, one hangs" within 60 parts_are "$mark" "4 0"
    ok "kill -9" kill_daemon KILL
    for dir in "$MNT" $(_mounts_below); do umount -l "$dir" 2>/dev/null; done
    no_faults
    ok "mounted again" mount_objmig all "$MNT"
    finished "after kill -9"
    is "the object is whole" "$(server_stat five md5)" "$(md5_of "$NAS/five")"
    is "and has its MD5" "$(server_stat five meta.md5)" "$(md5_of "$NAS/five")"
    read -r total twice <<<"$(parts_sent "$mark")"
    at_most "parts sent" "$total" 6
    at_most "of them twice" "$twice" 1
    is "no upload is left behind" "$(_ctl "$CONTROL" GET uploads)" '[]'
}

# What the provider says of what it holds is compared with what was sent; and refusals that pass are waited for.
provider_faults() {
    make_file "$NAS/sum" $((11 << 20)) 11
    server_fault '{"op":"CompleteMultipartUpload","key":"^sum$","action":"wrong_etag"}'
    server_fault '{"op":"HeadObject","key":"^sum$","action":"wrong_etag","skip":'"${1:-0}"'}'
    ok "an object the provider has another checksum of" cp "$NAS/sum" "$MNT/cloud/sum"
    finished "sent again"
    no_faults
    ok "the log says why" grep -q "key=sum the provider's checksum differs: it is sent again" "$LOG"
    is "and it is right in the end" "$(server_stat sum md5)" "$(md5_of "$NAS/sum")"
    server_fault '{"op":"PutObject","key":"^slow/","action":"status","status":503,"code":"SlowDown","count":4,"headers":{"Retry-After":"1"}}'
    server_fault '{"op":"PutObject","key":"^slow/","action":"status","status":429,"code":"TooManyRequests","count":2}'
    server_fault '{"op":"PutObject","key":"^slow/","action":"lost","skip":2}'
    ok "while it is throttled" cp -r "$MNT/nas/src/plain" "$MNT/cloud/slow"
    finished "throttled"
    ok "every object" at_server "$NAS/src/plain" slow/
    no_faults
}

# refused NAME REGEX [key=value …]: with these settings the mount fails with one line that matches, and doctor finds the same.
refused() {
    local name=$1 want=$2 rc dir=$T/refused text CONF=$T/refused.conf
    shift 2
    rm -f "$CONF"
    conf r "$@"
    mkdir -p "$dir" "$T/cache-r"
    chmod 700 "$T/cache-r"
    timeout 60 mount.objmig r "$dir" -o "config=$CONF,cache=$T/cache-r,log=$LOG" >"$T/said" 2>&1
    rc=$?
    text=$(cat "$T/said")
    if [ $rc != 1 ] || [ "$(wc -l <"$T/said")" != 1 ] || ! grep -qE "$want" <<<"$text"; then
        fail "$name" "status $rc; one line which matches $want is wanted" "$text"
    else
        pass "$name: $text"
    fi
    nok "$name: nothing is mounted" mountpoint -q "$dir"
    text+=$(timeout 60 objmig doctor --config "$CONF" --cache "$T/cache-r" 2>&1)
    matches "$name: doctor" "$text" "FAIL +remote \[r\]"
    nok "$name: no secret is shown" grep -qF $(printf -- '-e %s ' wrongSecret $SECRETS) <<<"$text"
}
