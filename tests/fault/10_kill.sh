#!/bin/bash
# kill -9 of the daemon, at 30 random moments, while cp -r, rsync and a large copy run into COS. After each: what close() had
# accepted is there, nothing half-written is visible, no upload is left behind, at most one part of a file went twice.
# OBJMIG_SEED picks the moments, OBJMIG_ROUNDS how many, OBJMIG_BIG the bytes of the largest copy (1 GiB).
# timeout: 900
. "$(dirname "$0")/../lib/lib.sh"
. "$TESTS_DIR/lib/kill.sh"
need_fuse
SEED=${OBJMIG_SEED:-1} ROUNDS=${OBJMIG_ROUNDS:-30} BIG=${OBJMIG_BIG:-$((1 << 30))}
RANDOM=$SEED
MNT=$T/mnt
OPTIONS=writeback_delay=0.1,list_ttl=1

# ---- sources, and what each byte of them is
make_tree() {
    local n
    for n in $(seq 150); do
        make_file "$T/src/d$((n % 9))/file $n" $((n * n * 37 % 90000)) "$n"
    done
    for n in 1 2 3; do
        make_file "$T/src/large/part$n" $((14 << 20)) $((1000 + n))
    done
    : >"$T/src/empty"
}

# missing_of_log LOG PREFIX: each file whose close() returned is at the provider with that content.
missing_of_log() {
    cos_ctl GET "objects/$COS_BUCKET?prefix=$2" | python3 -c '
import json, sys
# All are small enough for one PUT.
there = {o["key"]: o.get("md5") for o in json.load(sys.stdin)}
for line in open(sys.argv[1]):
    if not line.endswith("\n"):
        continue
    path, md5 = line.rstrip("\n").split("\t")
    key = path[len(sys.argv[2]) + 1:]
    if there.get(key) != md5:
        print("accepted but", "different" if key in there else "absent:", key)
' "$1" "$MNT" 2>&1
}

# round N WHAT PREFIX: WHAT runs into $MNT/PREFIX and is interrupted.
one_round() {
    local n=$1 what=$2 prefix=r$1 lo=0.05 hi=1.5 pid said
    case $what in
        cp) cp -r "$T/src" "$MNT/$prefix" >/dev/null 2>&1 & ;;
        rsync) rsync -a "$T/src/" "$MNT/$prefix/" >/dev/null 2>&1 & ;;
        writer) python3 "$TESTS_DIR/fault/writer.py" "$T/log.$n" "$MNT/$prefix" "$n" >/dev/null 2>&1 & ;;
        big) hi=3; { mkdir "$MNT/$prefix" && cp "$T/big/middle" "$MNT/$prefix/middle" && sync -d "$MNT/$prefix/middle"; } >/dev/null 2>&1 & ;;
        huge) lo=1; hi=6; { mkdir "$MNT/$prefix" && cp "$T/huge/huge" "$MNT/$prefix/huge" && sync -d "$MNT/$prefix/huge"; } >/dev/null 2>&1 & ;;
    esac
    pid=$!
    pause $lo $hi
    kill_daemon KILL || fail "$n $what: the daemon was there to be killed"
    # Whoever was writing gets an error, not silence.
    within 60 eval "! kill -0 $pid" || fail "$n $what: its writer hangs after the kill"
    wait $pid 2>/dev/null
    said=$(check_status)
    nothing "$n $what: status without a daemon" "$said"
    local left
    left=$(objmig status --cache "$CACHE" --json | python3 -c 'import json, sys; p = json.load(sys.stdin)["pending"]; print(p["files"], p["unfinished"])')
    mount_objmig cos "$MNT" "$OPTIONS" || die "$n $what: no new mount after the kill"
    ok "$n $what: wait (the journal said $left)" objmig wait "$MNT" --timeout=300 -q || objmig errors "$MNT" | head -n 3 | sed 's/^/#   /'
    case $what in
        writer) nothing "$n $what: all that was closed is there" "$(missing_of_log "$T/log.$n" "$prefix/")" ;;
        big) nothing "$n $what: whole or absent" "$(compare_objects "$prefix/" "$T/big")" ;;
        huge) nothing "$n $what: whole or absent" "$(compare_objects "$prefix/" "$T/huge")" ;;
        *) nothing "$n $what: each object is whole or absent" "$(compare_objects "$prefix/" "$T/src")" ;;
    esac
    is "$n $what: no upload is left behind" "$(cos_ctl GET uploads)" "[]"
}

start_cos
# What was out at a kill settles for requestTimeoutMs before anything else is sent for its key (a deletion, say).
conf_cos cos bigFileUploadPartSize=2097152 requestTimeoutMs=20000
make_tree
make_file "$T/big/middle" $((96 << 20)) 77
make_file "$T/huge/huge" "$BIG" 78
mount_objmig cos "$MNT" "$OPTIONS" || die "no mount"
kinds=(cp rsync writer big cp writer rsync big huge writer)
for n in $(seq "$ROUNDS"); do
    one_round "$n" "${kinds[$(((n - 1) % ${#kinds[@]}))]}"
    # Space in the server.
    [ $((n % 10)) != 0 ] || rm -rf "$MNT"/r*
done
nothing "at most one part of a file was sent twice" "$(parts_twice)"
umount_objmig "$MNT"
ok "the daemon goes" daemon_gone
done_testing
