#!/bin/bash
# A soak: cp -r, rsync, mv, renames and rm -r from several workers at once, between S3 and COS, while 1 % of the requests of both
# meet each kind of fault. Then the faults end, and what each worker left is compared through a fresh daemon: nothing is lost,
# nothing deleted is there, no upload is left. Memory, descriptors and the journal must not grow with time.
#
# Runs when asked for. OBJMIG_SOAK: seconds, some minutes at least for its bounds to mean anything, 3600 before a release.
# OBJMIG_SOAK_WORKERS: at once (3). OBJMIG_SEED picks the trees and the order.
# timeout: 4500
. "$(dirname "$0")/../lib/lib.sh"
. "$TESTS_DIR/lib/kill.sh"
[ -n "${OBJMIG_SOAK:-}" ] || skip_all "runs when asked for: OBJMIG_SOAK=SECONDS"
need_fuse
need_rgw
command -v rsync >/dev/null || skip_all "rsync is not installed"
SECONDS_LONG=$OBJMIG_SOAK
WORKERS=${OBJMIG_SOAK_WORKERS:-3}
RANDOM=${OBJMIG_SEED:-1}
MNT=$T/mnt
start_cos
start_proxy "127.0.0.1:$RGW_PORT"
BUCKET=$(new_bucket) || die "no bucket"
conf_s3 s3 "$BUCKET" "connectTo=127.0.0.1:$PROXY_PORT" requestTimeoutMs=3000 bigFileUploadPartSize=5242880
conf_cos cos requestTimeoutMs=3000 bigFileUploadPartSize=1048576 smallFileThreshold=1048576

for t in 0 1 2; do
    for n in $(seq 30); do
        make_file "$T/src$t/d$((n % 4))/file $n" $(((n * n * 37 + t * 911) % 60000)) $((t * 100 + n))
    done
    make_file "$T/src$t/large" $(((3 + t) << 20)) $((900 + t))
    : >"$T/src$t/empty"
    mkdir "$T/src$t/empty directory"
done

# Each kind at 1 % of what it can meet, out of step with each other.
faults_begin() {
    local n=0 rule
    for rule in '"action":"status","status":503,"code":"SlowDown"' '"action":"reset"' '"action":"lost"' \
        '"action":"cut","bytes":500,"method":"PUT"' '"action":"truncate","bytes":100,"method":"GET"' \
        '"action":"error200","op":"CompleteMultipartUpload"' '"action":"error200","op":"CopyObject"' \
        '"action":"status_after","status":500,"code":"InternalError"' '"action":"late","ms":700,"method":"PUT"' \
        '"action":"delay","ms":1000' '"action":"stall","bytes":100,"method":"GET"' '"action":"blackhole"'; do
        cos_fault "{$rule,\"count\":0,\"every\":100,\"skip\":$((n += 7))}"
    done
    for rule in '"action":"status","status":503,"body":"<Error><Code>SlowDown</Code></Error>"' '"action":"reset"' '"action":"drop"' \
        '"action":"cut","bytes":500,"method":"PUT"' '"action":"truncate","bytes":100,"method":"GET"' \
        '"action":"status_after","status":500,"body":"<Error><Code>InternalError</Code></Error>"' \
        '"action":"delay","ms":1000' '"action":"stall","bytes":100,"method":"GET"' '"action":"blackhole"'; do
        proxy_fault "{$rule,\"count\":0,\"every\":100,\"skip\":$((n += 7))}"
    done
}

# try WHAT COMMAND …: as an operator would: again when it failed, some times.
try() {
    local what=$1 i
    shift
    for i in $(seq 12); do
        "$@" >>"$W.out" 2>&1 && return 0
        echo "again: $what" >>"$W.again"
        sleep 1
    done
    echo "$what: $(tail -n 1 "$W.out")" >>"$W.failed"
    return 1
}
move() { # a move that was interrupted is finished by copying what is left, and then removing it
    [ ! -e "$1" ] || rsync -a "$1/" "$2/" && { [ ! -e "$1" ] || rm -r "$1"; }
}
gone() { rm -rf "$1" && [ ! -e "$1" ]; }
same() { diff -r "$1" "$2"; }

worker() { # N: rounds until the time is over; the last tree of every kind stays, for the comparison
    local w=$1 n=0 tree d
    W=$T/w$w
    RANDOM=$((${OBJMIG_SEED:-1} * 100 + w))
    while [ $SECONDS -lt "$END" ]; do
        n=$((n + 1)) tree=$T/src$((RANDOM % 3)) d=w$w-$n
        try "$d cp" cp -rT "$tree" "$MNT/cos/$d" || return
        if mv "$MNT/cos/$d" "$MNT/s3/$d" >>"$W.out" 2>&1 || try "$d mv" move "$MNT/cos/$d" "$MNT/s3/$d"; then :; else return; fi
        try "$d rsync" rsync -a "$MNT/s3/$d/" "$MNT/cos/$d-r/" || return
        try "$d rename" mv -T "$MNT/cos/$d-r" "$MNT/cos/$d-m" || return
        try "$d compare" same "$tree" "$MNT/cos/$d-m" || return
        if [ $((n % 5)) = 0 ]; then
            echo "s3/$d $tree" >>"$W.kept"
            echo "cos/$d-m $tree" >>"$W.kept"
        else
            try "$d rm" gone "$MNT/s3/$d" || return
            try "$d rm" gone "$MNT/cos/$d-m" || return
        fi
        echo "$n" >"$W.rounds"
    done
}

# "seconds rss_kib fds journal_kib" a line, every two seconds.
watch_daemon() {
    local pid
    pid=$(daemon_pids | head -n 1)
    while sleep 2 && [ -d "/proc/$pid" ]; do
        echo "$SECONDS $(awk '/^VmRSS/ { print $2 }' "/proc/$pid/status") $(ls "/proc/$pid/fd" | wc -l) \
$(du -k "$CACHE"/journal.db* | awk '{ s += $1 } END { print s }')" >>"$T/samples"
    done
}
# flat COLUMN ALLOWANCE: the highest of the last quarter against the highest of the second one.
flat() {
    awk -v c="$1" -v more="$2" '{ v[NR] = $c } END {
        for (i = int(NR / 4) + 1; i <= NR / 2; i++) if (v[i] > a) a = v[i]
        for (i = int(3 * NR / 4) + 1; i <= NR; i++) if (v[i] > b) b = v[i]
        if (b > a * 1.25 + more) print "second quarter", a, "last quarter", b }' "$T/samples"
}

mount_objmig all "$MNT" writeback_delay=0.2,list_ttl=2 || die "no mount"
faults_begin
END=$((SECONDS + SECONDS_LONG))
watch_daemon &
watcher=$!
pids=()
for w in $(seq "$WORKERS"); do
    worker "$w" &
    pids+=($!)
done
wait "${pids[@]}"
kill $watcher 2>/dev/null
wait $watcher 2>/dev/null
rounds=$(cat "$T"/w*.rounds 2>/dev/null | awk '{ s += $1 } END { print s + 0 }')
hits=$({ cos_ctl GET faults; proxy_ctl GET faults; } | python3 -c 'import re, sys; print(sum(map(int, re.findall(r"\"hits\": ?(\d+)", sys.stdin.read()))))')
echo "# $rounds rounds, $hits faults, $(cat "$T"/w*.again 2>/dev/null | wc -l) commands done again"
at_least "every worker came round" "$(ls "$T"/w*.rounds 2>/dev/null | wc -l)" "$WORKERS"
nothing "no command failed for good" "$(cat "$T"/w*.failed 2>/dev/null)"
at_least "faults were met" "$hits" 20
cos_ctl DELETE faults >/dev/null
proxy_ctl DELETE faults >/dev/null
sleep 4 # what is on its way may still arrive
objmig retry "$MNT" >/dev/null 2>&1
ok "wait" objmig wait "$MNT" --timeout=300 -q || objmig errors "$MNT" | head -n 5 | sed 's/^/#   /'
nothing "nothing is in error" "$(objmig errors "$MNT" 2>&1 | grep -v '^nothing' | head -n 5)"
umount_objmig "$MNT"
ok "the daemon goes" daemon_gone 120
rm -rf "$CACHE" # what the next one knows, it knows from the providers
mount_objmig all "$MNT" || die "no second mount"
cat "$T"/w*.kept 2>/dev/null | while read -r place tree; do
    out=$(diff -r "$tree" "$MNT/$place" 2>&1 | head -n 3)
    [ -z "$out" ] || echo "$place: $out"
done >"$T/differs"
nothing "what was to stay is whole ($(cat "$T"/w*.kept 2>/dev/null | wc -l) trees)" "$(cat "$T/differs")"
kept=$(cat "$T"/w*.kept 2>/dev/null | awk '{ print $1 }')
extra=$(cd "$MNT" && find s3 cos -mindepth 1 -maxdepth 1 | grep -vxF "${kept:-none}")
# A worker's last round may have been cut off by a command that failed for good: that was reported above.
nothing "what was deleted is gone" "$extra"
is "no upload is left" "$(cos_ctl GET uploads)" '[]'
echo "# memory, descriptors, journal at the end: $(tail -n 1 "$T/samples")"
nothing "memory is flat" "$(flat 2 16384)"
nothing "descriptors are flat" "$(flat 3 32)"
nothing "the journal is bounded" "$(flat 4 16384)"
umount_objmig "$MNT"
daemon_gone
done_testing
