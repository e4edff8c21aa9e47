#!/bin/bash
# Writes into the middle of a large object, and behind its end: what goes over the wire is what was touched, the rest is copied
# by the provider. Then a program that writes at random: qemu-img. OBJMIG_LARGE: bytes of the large object (1 GiB).
# timeout: 1000
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
SIZE=${OBJMIG_LARGE:-$((1 << 30))}
MIB=$((1 << 20))
[ "$SIZE" -ge $((64 * MIB)) ] || die "OBJMIG_LARGE=$SIZE is less than 64 MiB: too little to have a middle"
[ "$(df --output=avail -B1 "$T" | tail -n 1)" -gt $((SIZE * 5)) ] || skip_all "less than $((SIZE * 5 >> 30)) GiB free below $T"
command -v qemu-img >/dev/null || skip_all "qemu-img is not installed"
need_rgw
start_proxy "127.0.0.1:$RGW_PORT"
start_cos
BUCKET=$(new_bucket) || die "no bucket"
conf_cos cos
conf_s3 s3 "$BUCKET" "connectTo=127.0.0.1:$PROXY_PORT"
MNT=$T/mnt
OPTIONS=writeback_delay=0.2

# What the request log of the remote says since mark: sent OP (bytes), received OP, count OP.
mark() { MARK=$(req_mark "$WIRE"); }
sent() { SINCE=$MARK req_bytes "$WIRE" req_bytes "$1"; }
received() { SINCE=$MARK req_bytes "$WIRE" res_bytes "$1"; }
count() { SINCE=$MARK req_count "$WIRE" '*' "$1"; }

# The object as its provider has it, without us in between.
is_object() {
    case $R in
        cos) is "$1" "$(cos_stat large md5)" "$2" ;;
        s3) is "$1" "$(s3 GET "/$BUCKET/large" | md5sum | cut -d' ' -f1)" "$2" ;;
    esac
}
object_attr() {
    case $R in
        cos) cos_stat "$1" meta.md5 2>/dev/null ;;
        s3) s3 HEAD "/$BUCKET/$1" | tr -d '\r' | sed -n 's/^x-amz-meta-md5: //Ip' ;;
    esac
}
uploads() {
    case $R in
        cos) cos_ctl GET uploads ;;
        s3) s3 GET "/$BUCKET?uploads=" | grep -c '<Upload>' ;;
    esac
}

# both DD-OPTION …: the same write to the object on the mount and to the file it is compared with; then all of it is uploaded.
both() {
    local name=$1
    shift
    dd "$@" of="$T/large" conv=notrunc status=none || die "dd onto a local file"
    ok "$name: dd" dd "$@" of="$MNT/$R/large" conv=notrunc status=none
    ok "$name: wait" objmig wait "$MNT" --timeout=300 -q
}

# An attribute that is left of the content before would be a lie; none is allowed (rules D2).
honest_md5() {
    local got
    got=$(object_attr large)
    [ -z "$got" ] || is "$1: its MD5 attribute" "$got" "$(md5_of "$T/large")"
}

fresh() {
    umount_objmig "$MNT" && daemon_gone || return 1
    rm -rf "$CACHE"
    mount_objmig all "$MNT" "$OPTIONS"
}

# A part that is not the last has this much at least; what a write lacks is taken from the object itself.
random_writes() {
    local least=$1 middle=$((SIZE / 2 / 4096))
    make_file "$T/large" "$SIZE" 42
    make_file "$T/patch" $((3 * MIB)) 43
    ok "$R: an object of $SIZE bytes" cp "$T/large" "$MNT/$R/large"
    ok "$R: wait" objmig wait "$MNT" --timeout=300 -q
    ok "$R: a daemon that knows nothing of it" fresh

    mark
    both "$R: 3 MiB in the middle" if="$T/patch" bs=4096 seek=$middle
    at_least "$R: 3 MiB in the middle: bytes sent" "$(sent UploadPart)" $((3 * MIB))
    at_most "$R: 3 MiB in the middle: no more than one least part beside them" "$(sent UploadPart)" $((3 * MIB + least))
    at_most "$R: 3 MiB in the middle: bytes read for that" "$(received GetObject)" "$least"
    at_least "$R: 3 MiB in the middle: the rest is copied in parts" "$(count UploadPartCopy)" 2
    is "$R: 3 MiB in the middle: nothing is sent as a whole" "$(count PutObject)" 0
    honest_md5 "$R: 3 MiB in the middle"

    mark
    printf x >"$T/byte"
    both "$R: one byte behind the end" if="$T/byte" bs=1 seek="$SIZE"
    is "$R: one byte behind the end: one part is sent" "$(count UploadPart)" 1
    at_most "$R: one byte behind the end: a small one" "$(sent UploadPart)" "$least"
    at_most "$R: one byte behind the end: bytes read for that" "$(received GetObject)" "$least"
    is "$R: one byte behind the end: nothing is sent as a whole" "$(count PutObject)" 0
    honest_md5 "$R: one byte behind the end"

    # The first bytes, the last, and single bytes between: each costs a least part, nobody pays for the distance.
    mark
    python3 - "$T/large" "$MNT/$R/large" "$SIZE" <<'PY' || fail "$R: seven bytes: writing them"
import os, sys
size = int(sys.argv[3])
for path in sys.argv[1:3]:
    fd = os.open(path, os.O_RDWR)
    for k in range(7):
        assert os.pwrite(fd, b'!', k * size // 6) == 1
    os.close(fd)
PY
    ok "$R: seven bytes far apart: wait" objmig wait "$MNT" --timeout=300 -q
    at_most "$R: seven bytes far apart: bytes sent" "$(sent UploadPart)" $((7 * least))
    at_most "$R: seven bytes far apart: bytes read for that" "$(received GetObject)" $((7 * least))
    is_object "$R: the object has all of this, and nothing else" "$(md5_of "$T/large")"

    # Cut off, and written on.
    mark
    truncate -s $((SIZE / 2 + 1)) "$T/large" "$MNT/$R/large"
    both "$R: half of it and 3 MiB" if="$T/patch" bs=4096 oflag=append
    at_most "$R: half of it and 3 MiB: bytes sent" "$(sent UploadPart)" $((3 * MIB + least))
    is_object "$R: half of it and 3 MiB: the object" "$(md5_of "$T/large")"
    ok "$R: a daemon that knows nothing" fresh
    ok "$R: reads the same" cmp "$T/large" "$MNT/$R/large"
    is "$R: no upload is left behind" "$(uploads)" "$NONE"
    rm "$T/large" "$MNT/$R/large"
}

# Images of a disk with data here and there, by a program that seeks, writes zeros and punches holes.
images() {
    local format
    for format in raw qcow2 vpc vmdk; do
        ok "$R: qemu-img convert -O $format" timeout 100 qemu-img convert -f raw -O $format "$T/disk" "$MNT/$R/disk.$format"
    done
    ok "$R: qemu-img: wait" objmig wait "$MNT" --timeout=300 -q
    ok "$R: a daemon that knows nothing of the images" fresh
    for format in raw qcow2 vpc vmdk; do
        # The other two have no tables which could be checked.
        [[ $format != q* && $format != vm* ]] || ok "$R: qemu-img check: $format" timeout 100 qemu-img check -q -f $format "$MNT/$R/disk.$format"
        ok "$R: qemu-img compare: $format" timeout 100 qemu-img compare -q -f raw -F $format "$T/disk" "$MNT/$R/disk.$format"
    done
    # In place: the tables and clusters of an image that is there already.
    ok "$R: qemu-io writes into the qcow2 image" timeout 100 qemu-io -f qcow2 -c 'write -P 77 40M 300k' -c 'write -z 3M 2M' -c 'discard 50M 1M' "$MNT/$R/disk.qcow2"
    ok "$R: qemu-io: wait" objmig wait "$MNT" --timeout=300 -q
    ok "$R: a daemon that knows nothing of that" fresh
    ok "$R: qemu-img check: still" timeout 100 qemu-img check -q "$MNT/$R/disk.qcow2"
    ok "$R: qemu-io reads what it wrote" timeout 100 qemu-io -r -f qcow2 -c 'read -P 77 40M 300k' -c 'read -P 0 3M 2M' "$MNT/$R/disk.qcow2"
    rm "$MNT/$R"/disk.*
}

make_file "$T/disk" $((20 * MIB)) 7
dd if="$T/disk" of="$T/disk" bs=64K count=200 skip=13 seek=901 conv=notrunc status=none
truncate -s $((96 * MIB)) "$T/disk"
ok "mount" mount_objmig all "$MNT" "$OPTIONS"
for R in cos s3; do
    case $R in
        cos) WIRE=$COS_LOG NONE='[]'; random_writes $MIB; images ;;
        s3) WIRE=$PROXY_LOG NONE=0; random_writes $((5 * MIB)) ;;
    esac
    ok "$R: wait at the end" objmig wait "$MNT" --timeout=300 -q
done
umount_objmig "$MNT"
ok "the daemon goes" daemon_gone
done_testing
