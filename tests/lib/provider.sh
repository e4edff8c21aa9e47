# A provider with real mounts, beside a local remote; after lib.sh. The server is the provider's own of tests/servers.

# provider_test NAME SERVER CLASS: NAME as in provider = …, SERVER as in store_ctl, a storage class that must be restored before it is read.
provider_test() {
    NAME=$1 SERVER=$2 CLASS=$3
    M=$T/m-$NAME N=$T/m-nas
    need_fuse
    "start_$NAME"
    local log=${SERVER}_LOG
    STORE_LOG=${!log}
    conf_local nas "$T/nas"
    _provider_conf r
    _provider_freeze
    _provider_refusals
    _provider_copies
    _provider_trouble
    _provider_killed
    umount_objmig "$M"
    umount_objmig "$N"
    ok "the daemon goes" daemon_gone
}

_provider_conf() { "conf_$NAME" "$@" bigFileUploadPartSize=5M smallFileThreshold=5M; }
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
_provider_refusals() {
    mkdir -p "$T/refused" "$CACHE"
    chmod 700 "$CACHE"
    _provider_refused "wrong secret" accessKeySecret accessKeySecret=wrongSecret
    _provider_refused "wrong access key" accessKeyId accessKeyId=NOBODY
    _provider_refused "missing bucket" bucket bucket=missing-bucket
    _provider_refused "no server" "connect|server" connectTo=127.0.0.1:1 requestTryCount=2
    store_ctl "$SERVER" PUT bucket/far-bucket@cn-far >/dev/null
    _provider_refused "another region" "region.*cn-far|cn-far.*region" bucket=far-bucket
}
_provider_refused() {
    local what=$1 want=$2 conf=$CONF said
    shift 2
    CONF=$T/refused.conf
    rm -f "$CONF"
    _provider_conf r "$@"
    said=$(timeout 100 mount.objmig r "$T/refused" -o "config=$CONF,cache=$CACHE,log=$LOG" 2>&1)
    is "$what: exit status" $? 1
    is "$what: one line" "$(wc -l <<<"$said")" 1
    matches "$what: names it" "$said" "r\b.*($want)"
    nok "$what: the secret is not shown" grep -q wrongSecret <<<"$said"
    said=$(timeout 100 objmig doctor --config "$CONF" --cache "$CACHE" r 2>&1)
    matches "$what: the doctor finds it" "$(grep -E '^FAIL' <<<"$said")" "($want)"
    CONF=$conf
}

_provider_copies() {
    python3 "$TESTS_DIR/lib/make_tree.py" "$T/tree" 60
    find "$T/tree" -type l -delete # cp -r makes links anew each time
    # The source comes from a daemon of its own: this one knows nothing of it.
    local cache=$CACHE
    CACHE=$T/cache0
    mount_objmig nas "$N" && cp -r "$T/tree" "$N/" && objmig wait -q "$N" && umount_objmig "$N" && daemon_gone || die "no source"
    CACHE=$cache
    _provider_mount
    ok "cp -r to $NAME" cp -r "$N/tree" "$M/"
    _provider_wait "to $NAME" "$M"
    ok "every object: bytes, MD5, Content-Type" _provider_check
    _provider_alike "the mount shows them" "$T/tree" "$M/tree"
    matches "the large one was sent in parts" "$(store_stat "$SERVER" 'tree/big/여러 부분.bin' etag)" '-3$'
    is "no upload is left behind" "$(store_ctl "$SERVER" GET uploads)" '[]'
    SINCE=$(req_mark "$STORE_LOG")
    ok "cp -r again" cp -rT "$N/tree" "$M/tree"
    _provider_wait again "$M"
    is "moves nothing" "$(_provider_requests)" ''
    ok "cp -r back" cp -r "$M/tree" "$N/back"
    _provider_wait back "$N"
    _provider_alike "what came back is the same" "$T/tree" "$N/back"

    umount_objmig "$M" && umount_objmig "$N" && daemon_gone
    CACHE=$T/cache1
    _provider_mount
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
# Nobody else writes: what was listed stays true however slow the machine is.
_provider_mount() {
    ok "mount" mount_objmig r "$M" list_ttl=600
    ok "mount the local one" mount_objmig nas "$N" list_ttl=600
}
_provider_check() { store_ctl "$SERVER" GET "objects/$(_provider_bucket)" | python3 "$TESTS_DIR/lib/check_tree.py" "$T/tree" tree/; }
_provider_bucket() { local b=${SERVER}_BUCKET; echo "${!b}"; }

# frozen/ice, behind the mount's back.
_provider_freeze() {
    local vendor=${NAME/ks3/kss}
    echo ice >"$T/ice"
    curl -sS --noproxy '*' -X PUT -H 'Content-Type:' -H "x-$vendor-storage-class: $CLASS" --data-binary "@$T/ice" \
        "http://127.0.0.1:$(_provider_control)/_ctl/object/$(_provider_bucket)/frozen/ice" >/dev/null
}

_provider_trouble() {
    echo throttled >"$T/small"
    store_fault "$SERVER" '{"op":"PutObject","action":"status","status":503,"code":"SlowDown","headers":{"Retry-After":"1"},"count":2}'
    ok "throttled" cp "$T/small" "$M/throttled"
    _provider_wait throttled "$M"
    is "is there in the end" "$(store_cat "$SERVER" throttled)" throttled

    store_ctl "$SERVER" POST clock '{"offset_s":7200}' >/dev/null
    ok "two hours behind the server" cp "$T/small" "$M/skewed"
    _provider_wait skewed "$M"
    is "arrives nevertheless" "$(store_cat "$SERVER" skewed)" throttled
    store_ctl "$SERVER" POST clock '{"offset_s":0}' >/dev/null

    nok "an archived object cannot be read" cat "$M/frozen/ice"
    matches "the log says what to do" "$(grep -h archived "$LOG" | tail -n 1)" "archived( \($CLASS\))?: restore it first"
}
_provider_control() { local p=${SERVER}_CONTROL; echo "${!p}"; }

_provider_parts() { [ "$(req_count "$STORE_LOG" PUT UploadPart)" -ge "$1" ]; }
_provider_killed() {
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
    at_most "large: parts sent twice" "$(tail -n "+$((SINCE + 1))" "$STORE_LOG" | python3 -c 'import collections, json, sys, urllib.parse
n = collections.Counter(urllib.parse.parse_qs(e["query"])["partNumber"][0] for e in map(json.loads, sys.stdin)
                        if e["op"] == "UploadPart" and e["status"] == 200)
print(sum(1 for k in n.values() if k > 1))')" 1
    is "no upload is left behind" "$(store_ctl "$SERVER" GET uploads)" '[]'
}
