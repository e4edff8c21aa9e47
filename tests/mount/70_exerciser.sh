#!/bin/bash
# Random operations on mounted files, checked against memory; then the objects themselves, after a mount with an empty cache.
# OBJMIG_SEED picks the operations (the default changes nothing from run to run), OBJMIG_OPS their number; OBJMIG_OPTIONS are more
# options of the mount (memory=16M,list_ttl=0: hardly any cache).
# timeout: 600
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
EXERCISER=$OBJMIG_BUILD/tests/mount/exerciser
[ -x "$EXERCISER" ] || die "exerciser is not below $OBJMIG_BUILD"
SEED=${OBJMIG_SEED:-1} OPS=${OBJMIG_OPS:-5000}

start_cos
conf_cos cos bigFileUploadPartSize=1048576 smallFileThreshold=1048576
conf_local local "$T/data"
OPTIONS=writeback_delay=0.05,list_ttl=1${OBJMIG_OPTIONS:+,$OBJMIG_OPTIONS}

# exercise NAME SEED OPS MAXLEN FSYNC FILE FILE: and what the provider holds in the end.
exercise() {
    local name=$1 seed=$2 ops=$3 len=$4 sync=$5 a=$6 b=$7
    mkdir -p "$T/want"
    ( cd "$T/want" && timeout $((150 + OPS / 20)) "$EXERCISER" -s "$seed" -n "$ops" -l "$len" -f "$sync" "$MNT/$a" "$MNT/$b" ) >"$T/exerciser.txt" 2>&1
    local rc=$?
    if [ $rc != 0 ]; then
        # The newest operation is the last line.
        fail "$name: $ops operations" "status $rc" "$(tail -n 25 "$T/exerciser.txt")" "$(grep failed "$T/exerciser.txt")"
        return
    fi
    pass "$name: $ops operations"
    ok "$name: wait" objmig wait "$MNT" --timeout=300
    umount_objmig "$MNT"
    ok "$name: the daemon goes" daemon_gone
    rm -rf "$CACHE"
    ok "$name: a new mount with an empty cache" mount_objmig all "$MNT" "$OPTIONS"
    ok "$name: the first file is right" cmp "$T/want/exerciser.want.0" "$MNT/$a"
    ok "$name: the second file is right" cmp "$T/want/exerciser.want.1" "$MNT/$b"
}

MNT=$T/mnt
ok "mount" mount_objmig all "$MNT" "$OPTIONS"
exercise "local" "$SEED" "$OPS" 1000000 50 local/a local/b
exercise "cos" "$SEED" "$OPS" 1000000 50 cos/a cos/b
exercise "from local to cos and back" $((SEED + 1)) "$OPS" 6000000 100 local/c cos/c
exercise "cos in parts" $((SEED + 2)) $((OPS / 4)) 24000000 30 cos/d cos/e
is "no upload is left behind" "$(cos_ctl GET uploads)" "[]"
umount_objmig "$MNT"
ok "the daemon goes" daemon_gone
done_testing
