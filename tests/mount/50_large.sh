#!/bin/bash
# A 3 GiB file: local disk → COS → S3 → back, with little memory and a spool a sixth of its size. OBJMIG_LARGE: bytes.
# timeout: 1800
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
SIZE=${OBJMIG_LARGE:-$((3 << 30))}
[ "$(df --output=avail -B1 "$T" | tail -n 1)" -gt $((SIZE * 4)) ] || skip_all "less than $((SIZE * 4 >> 30)) GiB free below $T"
need_rgw
start_cos
BUCKET=$(new_bucket) || die "no bucket"
conf_cos cos
conf_s3 s3 "$BUCKET"
MNT=$T/mnt
PEAK=0

# note_peak: the daemon's largest resident set so far, in KiB.
note_peak() {
    local pid kb
    for pid in $(daemon_pids); do
        kb=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status")
        [ "$kb" -le $PEAK ] || PEAK=$kb
    done
}

spool_bytes() { du -s --block-size=1 "$CACHE" | cut -f1; }

# watch_spool FILE: the largest size of the cache directory, until killed.
watch_spool() {
    local most=0 now
    while :; do
        now=$(spool_bytes)
        [ "$now" -le $most ] || { most=$now; echo "$most" >"$1"; }
        sleep 0.3
    done
}

# parallel OP: how many of these requests of the COS server's log overlapped at most.
parallel() {
    python3 -c '
import json, sys
events = []
for line in open(sys.argv[1]):
    r = json.loads(line)
    if r.get("op") == sys.argv[2] and r["status"] in (200, 206):
        events += [(r["start_ms"], 1), (r["end_ms"], -1)]
most = now = 0
for _, step in sorted(events):
    now += step
    most = max(most, now)
print(most)' "$COS_LOG" "$1"
}

# fresh: nothing of what follows can come out of a cache.
fresh() {
    note_peak
    umount_objmig "$MNT" && daemon_gone || return 1
    rm -rf "$CACHE"
    mount_objmig all "$MNT" cache_size=512M
}

make_file "$T/large" "$SIZE" 42
MD5=$(md5_of "$T/large")
ok "mount" mount_objmig all "$MNT" cache_size=512M
watch_spool "$T/spool" &
WATCH=$!

ok "local disk to COS" cp "$T/large" "$MNT/cos/large"
ok "wait" objmig wait "$MNT" --timeout=300 -q
is "COS has its bytes" "$(cos_cat large | md5sum | cut -d' ' -f1)" "$MD5"
is "and its MD5 as an attribute" "$(cos_stat large meta.md5)" "$MD5"
matches "by parts" "$(cos_stat large etag)" '-[0-9]+"?$'
at_least "parts went in parallel" "$(parallel UploadPart)" 3
is "no upload is left behind" "$(cos_ctl GET uploads)" "[]"
rm "$T/large"

ok "a new cache" fresh
ok "COS to S3" cp "$MNT/cos/large" "$MNT/s3/large"
ok "wait" objmig wait "$MNT" --timeout=300 -q
HEAD=$(s3 HEAD "/$BUCKET/large" | tr -d '\r')
matches "S3 has its size" "$HEAD" "[Cc]ontent-[Ll]ength: $SIZE"
matches "and its MD5 as an attribute" "$HEAD" "x-amz-meta-md5: $MD5"
at_least "parts were read in parallel" "$(parallel GetObject)" 2
cos_rm large

ok "a new cache" fresh
ok "S3 to COS" cp "$MNT/s3/large" "$MNT/cos/again"
ok "wait" objmig wait "$MNT" --timeout=300 -q
is "COS has its bytes again" "$(cos_cat again | md5sum | cut -d' ' -f1)" "$MD5"
is "and its MD5 as an attribute" "$(cos_stat again meta.md5)" "$MD5"

ok "a new cache" fresh
is "S3 to local disk" "$(md5_of "$MNT/s3/large")" "$MD5"
note_peak
kill $WATCH 2>/dev/null
wait $WATCH 2>/dev/null
if [ -n "${OBJMIG_SANITIZED:-}" ]; then
    skip "the daemon's memory stays below 400 MiB (KiB)" "the sanitizer's own memory counts"
else
    at_most "the daemon's memory stays below 400 MiB (KiB)" "$PEAK" 409600
fi
# The limit, one request of each writer above it, and the journal.
at_most "the spool stays below 512 MiB (bytes)" "$(cat "$T/spool")" $((560 << 20))
ok "rm" rm "$MNT/cos/again" "$MNT/s3/large"
ok "wait" objmig wait "$MNT" --timeout=300 -q
umount_objmig "$MNT"
ok "the daemon goes" daemon_gone
done_testing
