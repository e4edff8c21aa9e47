# A provider with real mounts, beside a local remote; after lib.sh. The server is the provider's own of tests/servers.

# provider_test NAME CLASS: all there is for a provider with regions. CLASS: a storage class that must be restored before it is
# read.
provider_test() {
    provider_begin "$1"
    provider_freeze "$2"
    provider_refusals
    _provider_far
    provider_copies
    provider_trouble
    provider_frozen "$2"
    provider_killed
    provider_end
}

# provider_begin NAME [option …]: a server with these options, nothing mounted. Then provider_… in the order of provider_test, and
# what only this provider has; provider_end.
provider_begin() {
    NAME=$1 SERVER=${1^^} CREDENTIALS=$1
    M=$T/m-$NAME N=$T/m-nas
    need_fuse
    "start_$NAME" "${@:2}"
    local log=${SERVER}_LOG secret=${SERVER}_SECRET_KEY
    STORE_LOG=${!log}
    SECRETS=(wrongSecret "${!secret}") # what no message shows
    conf_local nas "$T/nas"
    provider_conf r
}
provider_end() {
    umount_objmig "$M"
    umount_objmig "$N"
    ok "the daemon goes" daemon_gone
}

# provider_conf SECTION [key=value …]: with credentials of the kind CREDENTIALS, as in conf_….
provider_conf() { "conf_$CREDENTIALS" "$@" bigFileUploadPartSize=5M smallFileThreshold=5M; }
# provider_put KEY FILE [curl option …]: behind the mount's back.
provider_put() {
    local port=${SERVER}_CONTROL
    curl -sSg --fail-with-body --noproxy '*' -X PUT -H 'Content-Type:' --data-binary "@$2" "${@:3}" \
        "http://127.0.0.1:${!port}/_ctl/object/$(_store_key "$SERVER" "$1")" >/dev/null || die "$1 cannot be put"
}
# provider_check DIR PREFIX [BUCKET]: every object below PREFIX is what DIR has.
provider_check() {
    local bucket=${SERVER}_BUCKET
    store_ctl "$SERVER" GET "objects/${3:-${!bucket}}" | python3 "$TESTS_DIR/lib/check_tree.py" "$1" "$2"
}
# Both mounts, of a daemon that knows nothing yet.
provider_fresh() {
    umount_objmig "$M" && umount_objmig "$N" && daemon_gone
    CACHE=$(mktemp -d "$T/cacheXXX")
    _provider_mount
}
_provider_wait() { ok "$1: objmig wait" timeout 120 objmig wait -q "$2"; }
_provider_alike() { ok "$1" bash -c 'out=$(diff -r --no-dereference "$1" "$2" 2>&1 | head); echo "$out"; [ -z "$out" ]' - "$2" "$3"; }
# What went over the wire since SINCE, but for lists: "op:number …".
_provider_requests() {
    tail -n "+$((SINCE + 1))" "$STORE_LOG" | python3 -c 'import collections, json, sys
n = collections.Counter(e["op"] for e in map(json.loads, sys.stdin))
n.pop("GetBucket", None)
print(" ".join(f"{op}:{k}" for op, k in sorted(n.items())))'
}

# Each fault of the settings: one line that names what to look at, and nothing mounted.
provider_refusals() {
    provider_refused "wrong secret" accessKeySecret accessKeySecret=wrongSecret
    provider_refused "wrong access key" accessKeyId accessKeyId=NOBODY
    provider_refused "missing bucket" bucket bucket=missing-bucket
    provider_refused "no server" "connect|server" connectTo=127.0.0.1:1 requestTryCount=2
}
_provider_far() {
    store_ctl "$SERVER" PUT bucket/far-bucket@cn-far >/dev/null
    provider_refused "another region" "region.*cn-far|cn-far.*region" bucket=far-bucket
}
# provider_refused WHAT REGEX [key=value …]: what these settings are answered with.
provider_refused() {
    local what=$1 want=$2 said CONF=$T/refused.conf CACHE=$T/cache-r
    shift 2
    mkdir -p "$T/refused" "$CACHE"
    chmod 700 "$CACHE"
    rm -f "$CONF"
    provider_conf r "$@"
    said=$(timeout 100 mount.objmig r "$T/refused" -o "config=$CONF,cache=$CACHE,log=$LOG" 2>&1)
    is "$what: exit status" $? 1
    is "$what: one line" "$(wc -l <<<"$said")" 1
    matches "$what: names it" "$said" "r\b.*($want)"
    nok "$what: nothing is mounted" mountpoint -q "$T/refused"
    said+=$'\n'$(timeout 100 objmig doctor --config "$CONF" --cache "$CACHE" r 2>&1)
    matches "$what: the doctor finds it" "$(grep -E '^FAIL' <<<"$said")" "($want)"
    nok "$what: no secret is shown" grep -qF "$(printf '%s\n' "${SECRETS[@]}")" <<<"$said"
}

provider_copies() {
    local name
    python3 "$TESTS_DIR/lib/make_tree.py" "$T/tree" 60
    find "$T/tree" -type l -delete # cp makes links anew each time
    mkdir "$T/tree/odd"
    for name in '%2F' '100%25 off' 'a;b,c:d=e' "quote'\"" '<tag>&amp;' 'trail ' '$~!(){}[]|`' 'emoji 🎈' '...' CON \
        "$(printf 'x%.0s' {1..200})"; do
        echo "$name" >"$T/tree/odd/$name"
    done
    # The source comes from a daemon of its own: this one knows nothing of it.
    local cache=$CACHE
    CACHE=$T/cache0
    mount_objmig nas "$N" && cp -a "$T/tree" "$N/" && objmig wait -q "$N" && umount_objmig "$N" && daemon_gone || die "no source"
    CACHE=$cache
    _provider_mount
    ok "cp -a to $NAME" cp -a "$N/tree" "$M/"
    _provider_wait "to $NAME" "$M"
    ok "every object: bytes, MD5, Content-Type" provider_check "$T/tree" tree/
    _provider_alike "the mount shows them" "$T/tree" "$M/tree"
    matches "the large one was sent in parts" "$(_provider_part_numbers 0 'tree/big/여러 부분.bin')" '^1 2 3$'
    matches "mtime, as other tools write it" "$(store_stat "$SERVER" tree/big/threshold meta.mtime)" \
        "^$(stat -c %.9Y "$T/tree/big/threshold" | sed 's/0*$//')0*$"
    is "no upload is left behind" "$(store_ctl "$SERVER" GET uploads)" '[]'
    SINCE=$(req_mark "$STORE_LOG")
    ok "cp -a again" cp -aT "$N/tree" "$M/tree"
    ok "rsync -a" rsync -a "$N/tree/" "$M/tree/"
    _provider_wait again "$M"
    is "moves nothing" "$(_provider_requests)" ''

    provider_fresh
    ok "another daemon: cp -a back" cp -a "$M/tree" "$N/back"
    _provider_wait back "$N"
    _provider_alike "what came back is the same" "$T/tree" "$T/nas/back"
    is "its times and modes, too" "$(_provider_attributes "$T/nas/back")" "$(_provider_attributes "$T/tree")"
    is "the MD5 is an attribute" "$(getfattr --absolute-names --only-values -n user.objmig.md5 "$M/tree/big/여러 부분.bin")" \
        "$(md5_of "$T/tree/big/여러 부분.bin")"

    provider_fresh
    SINCE=$(req_mark "$STORE_LOG")
    ok "cp inside" cp "$M/tree/big/threshold" "$M/copy"
    _provider_wait inside "$M"
    is "is a copy at the provider" "$(req_count "$STORE_LOG" PUT CopyObject)-$(req_count "$STORE_LOG" PUT PutObject)" 1-0
    is "with the MD5" "$(store_stat "$SERVER" copy meta.md5)" "$(md5_of "$T/tree/big/threshold")"
    setfattr -n user.colour -v blue "$M/copy"
    chmod 640 "$M/copy"
    _provider_wait "an attribute" "$M"
    is "metadata is replaced, the rest kept" \
        "$(store_stat "$SERVER" copy meta.mode)-$(store_stat "$SERVER" copy md5)" "$((0100640))-$(md5_of "$T/tree/big/threshold")"
    ok "rm -r" rm -r "$M/tree/real"
    _provider_wait "rm -r" "$M"
    is "is gone there, too" "$(store_keys "$SERVER" tree/real/)" ''
}
_provider_attributes() { ( cd "$1" && find . -type f -printf '%p %m %T@\n' | sort ); }
# Nobody else writes: what was listed stays true however slow the machine is.
_provider_mount() {
    ok "mount" mount_objmig r "$M" list_ttl=600
    ok "mount the local one" mount_objmig nas "$N" list_ttl=600
}

# frozen, of that storage class.
provider_freeze() {
    local vendor=${NAME/ks3/kss}
    echo ice >"$T/ice"
    provider_put frozen "$T/ice" -H "x-${vendor/bos/bce}-storage-class: $1"
}
provider_frozen() {
    nok "an archived object cannot be read" cat "$M/frozen"
    matches "the log says what to do" "$(grep -h archived "$LOG" | tail -n 1)" "key=frozen .*archived( \($1\))?: restore it first"
    cp "$M/frozen" "$N/thawed" 2>/dev/null
    timeout 100 objmig wait -q "$N"
    is "its copy fails" $? 2
    matches "and says why" "$(objmig errors "$N")" "thawed.*archived( \($1\))?: restore it first"
    nok "restore: for how long" objmig restore "$M"
    matches "restore: where nothing is archived" "$(objmig restore "$N" --days 1 2>&1)" 'nothing has to be restored'
    is "restore: a directory" "$(objmig restore "$M/" --days 2 --json | sed 's/"seen":[0-9]*//')" \
        '{,"begun":1,"under_way":0,"readable":0,"failed":0}'
    matches "restore: one file, once more" "$(objmig restore --days=3 "$M/frozen")" \
        '^1 objects looked at; of those archived: 0 asked for, [01] under way before, [01] readable, 0 failed$'
    matches "restore: a file that is not archived" "$(objmig restore "$M/skewed" --days 3 2>&1)" '0 asked for, 0 under'
    ok "it can be read soon" _provider_soon cat "$M/frozen"
    ok "the copy is tried again" objmig retry "$N"
    _provider_wait "a restored source" "$N"
    ok "and goes on" cmp "$T/ice" "$N/thawed"
}
# Until it succeeds, for a while.
_provider_soon() {
    local n
    for n in {1..60}; do
        "$@" >/dev/null 2>&1 && return
        sleep 0.2
    done
    return 1
}

provider_trouble() {
    echo throttled >"$T/small"
    local slow='"op":"PutObject","key":"^slow/","action":"status"'
    store_fault "$SERVER" "{$slow"',"status":503,"code":"SlowDown","headers":{"Retry-After":"1"},"count":4}'
    store_fault "$SERVER" "{$slow"',"status":429,"code":"TooManyRequests","count":2}'
    store_fault "$SERVER" '{"op":"PutObject","key":"^slow/","action":"lost","skip":2}'
    ok "throttled, and an answer lost" cp -r "$N/tree/many" "$M/slow"
    _provider_wait throttled "$M"
    ok "every object is there in the end" provider_check "$T/tree/many" slow/
    store_ctl "$SERVER" DELETE faults >/dev/null

    store_ctl "$SERVER" POST clock '{"offset_s":7200}' >/dev/null
    ok "two hours behind the server" cp "$T/small" "$M/skewed"
    _provider_wait skewed "$M"
    is "arrives nevertheless" "$(store_cat "$SERVER" skewed)" throttled
    store_ctl "$SERVER" POST clock '{"offset_s":0}' >/dev/null
}

# What the provider says of what it holds is compared with what was sent.
provider_checksums() {
    make_file "$T/sum" $((11 << 20)) 11
    store_fault "$SERVER" '{"op":"CompleteMultipartUpload","key":"^sum$","action":"wrong_etag"}'
    store_fault "$SERVER" '{"op":"HeadObject","key":"^sum$","action":"wrong_etag"}'
    ok "an object the provider has another checksum of" cp "$T/sum" "$M/sum"
    _provider_wait "sent again" "$M"
    store_ctl "$SERVER" DELETE faults >/dev/null
    ok "the log says why" grep -q "key=sum the provider's checksum differs: it is sent again" "$LOG"
    is "and it is right in the end" "$(store_stat "$SERVER" sum md5)" "$(md5_of "$T/sum")"
}

# _provider_part_numbers MARK KEY: of the parts of KEY that arrived since MARK, in order.
_provider_part_numbers() {
    tail -n "+$(($1 + 1))" "$STORE_LOG" | python3 -c 'import json, sys, urllib.parse
print(*sorted(int(urllib.parse.parse_qs(e["query"])["partNumber"][0]) for e in map(json.loads, sys.stdin)
              if e["op"] == "UploadPart" and e["status"] == 200 and e["key"] == sys.argv[1]))' "$2"
}
_provider_parts() { [ "$(req_count "$STORE_LOG" PUT UploadPart)" -ge "$1" ]; }
provider_killed() {
    make_file "$T/large" $((40 << 20)) 5
    SINCE=$(req_mark "$STORE_LOG")
    store_fault "$SERVER" '{"op":"UploadPart","action":"hold","skip":4,"count":0}'
    ok "cp of eight parts" cp "$T/large" "$M/large"
    ok "four of them are there" within 60 _provider_parts 4
    kill_daemon KILL
    store_ctl "$SERVER" DELETE faults >/dev/null
    umount -l "$M" "$N"
    ok "mount after the kill" mount_objmig r "$M"
    ok "and the local one" mount_objmig nas "$N"
    _provider_wait "after the kill" "$M"
    is "large: the right bytes" "$(store_stat "$SERVER" large md5)" "$(md5_of "$T/large")"
    is "large: its MD5" "$(store_stat "$SERVER" large meta.md5)" "$(md5_of "$T/large")"
    at_most "large: parts sent twice" "$(_provider_part_numbers "$SINCE" large | tr ' ' '\n' | uniq -d | wc -l)" 1
    is "no upload is left behind" "$(store_ctl "$SERVER" GET uploads)" '[]'
}
