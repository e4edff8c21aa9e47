#!/bin/bash
# Who serves the requests (fs/loop.c): one that is stuck holds up nobody else, as long as a thread is left; then all go on.
# timeout: 120
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
LOOPFS=$OBJMIG_BUILD/tests/mount/loopfs
MNT=$T/mnt
mkdir "$MNT"

# serve THREADS
serve() {
    "$LOOPFS" "$MNT" "$1" &
    SERVER=$!
    within 30 mountpoint -q "$MNT" || die "loopfs does not mount"
}
# slow N MS: N names that take MS milliseconds, each asked for by a process of its own; in SLOW.
slow() {
    local n
    SLOW=()
    for n in $(seq "$1"); do
        stat "$MNT/dir$n/slow-$2" >/dev/null &
        SLOW+=($!)
    done
    sleep 0.5
}
running() { local pid n=0; for pid in "${SLOW[@]}"; do kill -0 "$pid" 2>/dev/null && n=$((n + 1)); done; echo "$n"; }
ends() {
    umount "$MNT"
    wait "$SERVER"
    is "$1: it ends when it is unmounted" $? 0
}

serve 4
for n in $(seq 50); do stat "$MNT/quick $n" >/dev/null || break; done
is "one after another" "$n" 50
slow 3 8000
ok "beside three that are stuck, of four threads" timeout 6 stat -t "$MNT/quick"
is "which were stuck all the while" "$(running)" 3
wait "${SLOW[@]}"
is "they are answered, too" $? 0
slow 8 1500
ok "with all threads stuck it is answered when one is free" timeout 60 stat -t "$MNT/quick"
wait "${SLOW[@]}"
is "and all others" $? 0
sleep 0.5 # the watcher sleeps by now
slow 1 8000
ok "stuck after a pause" timeout 6 stat -t "$MNT/quick"
wait "${SLOW[@]}"
ends "four threads"

serve 1
ok "a single thread" stat -t "$MNT/quick"
ends "a single thread"
done_testing
