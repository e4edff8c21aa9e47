#!/bin/bash
# Inside one daemon bytes do not pass through the kernel: cp between two mounts is a COPY_FILE_RANGE, the spool stays empty, and
# between buckets of one provider the provider copies.
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
need_rgw
start_cos --bucket test-1250000000 --bucket other-1250000000
start_proxy "127.0.0.1:$RGW_PORT"
BUCKET=$(new_bucket) && OTHER=$(new_bucket) || die "no bucket"
S3=$T/m-s3 S3B=$T/m-s3b COS=$T/m-cos COSB=$T/m-cosb
conf_s3 s3 "$BUCKET" "connectTo=127.0.0.1:$PROXY_PORT" copyPartThreshold=5M
conf_s3 s3b "$OTHER" "connectTo=127.0.0.1:$PROXY_PORT" copyPartThreshold=5M
conf_cos cos bucket=test-1250000000 copyPartThreshold=4M
conf_cos cosb bucket=other-1250000000 copyPartThreshold=4M
FILES=200

# ---- a source which no spool has seen: written by a daemon with another cache

mkdir "$T/src"
for i in $(seq $FILES); do
    head -c $((i * 37)) /dev/urandom >"$T/src/file $i.txt"
done
make_file "$T/src/부분들 12M" 12582929
make_file "$T/src/copied whole 3M" 3145728
mkdir "$T/src/empty"
: >"$T/src/nothing"
NONEMPTY=$((FILES + 2))
OUTER_CACHE=$CACHE
CACHE=$T/cache0
mount_objmig s3 "$S3" && cp -r "$T/src" "$S3/src" && objmig wait -q "$S3" && umount_objmig "$S3" && daemon_gone || die "no source"
CACHE=$OUTER_CACHE

# ---- who counts: the kernel's own trace of FUSE requests, where it has one; the system calls of cp in any case

TRACE=
mkdir "$T/tracefs"
if mount -t tracefs none "$T/tracefs" 2>/dev/null && [ -d "$T/tracefs/events/fuse/fuse_request_send" ] &&
    mkdir "$T/tracefs/instances/objmig.$$" 2>/dev/null; then
    TRACE=$T/tracefs/instances/objmig.$$
    echo 16384 >"$TRACE/buffer_size_kb"
    trap 'rc=$?; echo 0 >"$TRACE/events/fuse/fuse_request_send/enable"; rmdir "$TRACE"; (exit $rc); _cleanup' EXIT
fi
CONNECTION=
trace_begin() {
    [ -n "$TRACE" ] || return 0
    CONNECTION=$(awk -v d="$S3" '$5 == d { split($3, n, ":"); print n[2] }' /proc/self/mountinfo)
    : >"$TRACE/trace"
    echo 1 >"$TRACE/events/fuse/fuse_request_send/enable"
}
trace_end() {
    [ -n "$TRACE" ] || return 0
    echo 0 >"$TRACE/events/fuse/fuse_request_send/enable"
    grep -a "connection $CONNECTION " "$TRACE/trace" >"$T/trace.txt"
    # What did not fit into the buffer was not counted either.
    is "the trace is complete" "$(awk '/overrun|dropped/ { n += $NF } END { print n + 0 }' "$TRACE"/per_cpu/cpu*/stats)" 0
}
requests() { grep -c "($1)" "$T/trace.txt"; }

spool_used() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["spool"]["used"])' "$S3/.objmig/status"; }
# The largest the spool's files are together while we look, sampled as fast as may be.
watch_spool() {
    local max=0 now
    while [ ! -e "$T/watched" ]; do
        now=$(find "$CACHE/tmp" -type f -printf '%b\n' 2>/dev/null | awk '{ n += $1 } END { print n * 512 }')
        [ "${now:-0}" -le $max ] || max=$now
        sleep 0.02
    done
    echo $max >"$T/spool.max"
}

# inside NAME FROM TO COMMAND …: runs it under all these eyes.
inside() {
    local name=$1 source=$2 dir=$3
    shift 3
    rm -f "$T/watched"
    local before
    before=$(spool_used)
    watch_spool &
    local watcher=$!
    trace_begin
    ok "$name" "$@"
    ok "$name: objmig wait" timeout 300 objmig wait -q "$dir"
    trace_end
    touch "$T/watched"
    wait $watcher
    if [ -n "$TRACE" ]; then
        is "$name: no FUSE_READ" "$(requests FUSE_READ)" 0
        is "$name: no FUSE_WRITE" "$(requests FUSE_WRITE)" 0
        at_least "$name: FUSE_COPY_FILE_RANGE" "$(requests FUSE_COPY_FILE_RANGE)" $NONEMPTY
    fi
    is "$name: not a byte in the spool's files" "$(cat "$T/spool.max")" 0
    is "$name: the spool counts as much as before" "$(spool_used)" "$before"
    [ "${DIFF:-yes}" = no ] || every_byte "$name" "$source" "$dir"
}

# Bytes of objects in requests.
put_bodies() { echo $(($(req_bytes "$1" req_bytes PutObject) + $(req_bytes "$1" req_bytes UploadPart))); }

# by_provider LOG NAME …: inside, and no byte of an object went over the wire; whole objects were copied in one request, the one
# above the limit by parts.
by_provider() {
    local log=$1 name=$2 dir=$4
    shift
    SINCE=$(req_mark "$log")
    DIFF=no inside "$@"
    is "$name: no GET of an object" "$(req_count "$log" GET GetObject)" 0
    is "$name: no byte in a PUT" "$(put_bodies "$log")" 0
    is "$name: whole objects in one request" "$(req_count "$log" PUT CopyObject)" $((FILES + 1))
    at_least "$name: above the limit by parts" "$(req_count "$log" PUT UploadPartCopy)" 3
    every_byte "$name" "$T/src" "$dir"
}
every_byte() {
    ok "$1: every byte is there" bash -c 'out=$(diff -r "$1" "$2" 2>&1); echo "$out" | head; [ -z "$out" ]' - "$2" "$3"
}

for m in s3 s3b cos cosb; do
    ok "mount $m" mount_objmig "$m" "$T/m-$m"
done
is "one superblock" "$(stat -c %d "$S3" "$S3B" "$COS" "$COSB" | sort -u | wc -l)" 1

# ---- S3 -> COS: bytes stream from provider to provider

inside "cp S3 -> COS" "$T/src" "$COS/src" cp -r "$S3/src" "$COS/src"
is "the whole file's MD5, of several parts" "$(cos_stat 'src/부분들 12M' meta.md5)" "$(md5_of "$T/src/부분들 12M")"

if command -v strace >/dev/null; then
    mkdir "$COS/traced"
    ok "strace cp" strace -f -e trace=copy_file_range,read,pread64,write,pwrite64,sendfile,splice -o "$T/strace" \
        cp "$S3/src/부분들 12M" "$COS/traced/one"
    is "one call took the whole file" "$(awk '/copy_file_range/ { print $NF; exit }' "$T/strace")" 12582929
    # ld.so and the locale read their own files; nobody writes.
    is "cp wrote nothing itself" "$(grep -cE ' (write|pwrite64|sendfile|splice)\(' "$T/strace")" 0
    is "and read nothing of it" "$(grep -E ' p?read(64)?\(' "$T/strace" | awk '$NF > 65536' | wc -l)" 0
else
    skip "strace cp" "strace is not installed"
fi

# ---- COS -> COS

objmig wait -q "$COS"
by_provider "$COS_LOG" "cp COS -> COS, same bucket" "$T/src" "$COS/src2" cp -r "$COS/src" "$COS/src2"
by_provider "$COS_LOG" "cp COS -> COS, other bucket" "$T/src" "$COSB/src" cp -r "$COS/src" "$COSB/src"
by_provider "$COS_LOG" "cp -a COS -> COS" "$T/src" "$COSB/src-a" cp -a "$COS/src" "$COSB/src-a"
for at in test-1250000000/src2 other-1250000000/src other-1250000000/src-a; do
    is "$at: the MD5 came along" "$(cos_ctl GET "stat/${at%%/*}/$(urlencode "${at#*/}/부분들 12M")?field=meta.md5")" "$(md5_of "$T/src/부분들 12M")"
    is "$at: of a small one as well" "$(cos_ctl GET "stat/${at%%/*}/${at#*/}/file%207.txt?field=meta.md5")" "$(md5_of "$T/src/file 7.txt")"
    is "$at: its type" "$(cos_ctl GET "stat/${at%%/*}/${at#*/}/file%207.txt?field=headers.content-type")" text/plain
done

# ---- S3 -> S3

by_provider "$PROXY_LOG" "cp S3 -> S3, same bucket" "$T/src" "$S3/src2" cp -r "$S3/src" "$S3/src2"
by_provider "$PROXY_LOG" "cp S3 -> S3, other bucket" "$T/src" "$S3B/src" cp -r "$S3/src" "$S3B/src"
is "S3 -> S3: the MD5 came along" "$(s3 HEAD "/$OTHER/src/$(urlencode '부분들 12M')" | tr -d '\r' | sed -n 's/^x-amz-meta-md5: //p')" \
    "$(md5_of "$T/src/부분들 12M")"

# ---- mv inside one bucket is a copy by the provider and a delete

SINCE=$(req_mark "$COS_LOG")
ok "mv of a directory inside one bucket" mv "$COS/src2" "$COS/src3"
ok "mv: objmig wait" timeout 300 objmig wait -q "$COS"
is "mv: no GET of an object" "$(req_count "$COS_LOG" GET GetObject)" 0
is "mv: no byte in a PUT" "$(put_bodies "$COS_LOG")" 0
is "mv: nothing is left" "$(cos_keys src2/)" ''
ok "mv: every byte is there" diff -r "$T/src" "$COS/src3"
done_testing
