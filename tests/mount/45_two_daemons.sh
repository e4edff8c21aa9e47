#!/bin/bash
# Two daemons on one machine, each with its cache directory: each ends with its own last mount, whatever the other does. And a mount
# finds what a daemon that died has left, also when it dies while we look.
# timeout: 500
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
start_cos --bucket test-1250000000 --bucket other-1250000000
conf_cos a bucket=test-1250000000
conf_cos b bucket=other-1250000000
gone() { ! [ -e "/proc/$1" ]; }
# As mount(8) would start it: with no look at the directory before.
mount_only() { timeout 60 mount.objmig "$1" "$2" -o "config=$CONF,cache=$CACHE,log=$LOG"; }

# pair KIND FIRST: mounts a, then b, below a mount of this propagation; umounts FIRST first.
pair() {
    local kind=$1 first=$2 last top=$T/$1-$2 a b
    last=$([ "$first" = a ] && echo b || echo a)
    local name="$kind, $first first"
    mkdir "$top"
    mount --bind "$top" "$top" && mount --make-"$kind" "$top" || die "no $kind mount"
    CACHE=$T/cache-a
    ok "$name: mount a" mount_objmig a "$top/a"
    a=$(daemon_pids)
    CACHE=$T/cache-b
    ok "$name: mount b, by a second daemon" mount_objmig b "$top/b"
    b=$(daemon_pids | grep -vx "$a")
    is "$name: there are two" "$(wc -w <<<"$a $b")" 2
    local -A pid=([a]=$a [b]=$b) bucket=([a]=test-1250000000 [b]=other-1250000000)
    # The name space of b began as a copy of one in which a was mounted.
    [ "$kind" = shared ] || nok "$name: b has no copy of it" grep " $top/a " "/proc/$b/mountinfo"
    echo "from-$kind-$first" >"$top/$first/file"
    ok "$name: umount $first" umount_objmig "$top/$first"
    ok "$name: it ends while $last goes on" within 60 gone "${pid[$first]}"
    is "$name: what it had accepted is there" "$(cos_ctl GET "object/${bucket[$first]}/file")" "from-$kind-$first"
    ok "$name: $last works" bash -c 'echo from-last >"$1/file" && objmig wait -q "$1"' - "$top/$last"
    ok "$name: umount $last" umount_objmig "$top/$last"
    ok "$name: $last ends" within 60 gone "${pid[$last]}"
    ok "$name: and the other, at the latest now" within 60 gone "${pid[$first]}"
    is "$name: what $last had accepted is there" "$(cos_ctl GET "object/${bucket[$last]}/file")" from-last
    umount "$top"
}
for kind in private shared; do
    pair $kind a
    pair $kind b
done

# ---- mounts on mounts: the second daemon has a copy of each of them

CACHE=$T/cache-a
mount_objmig a "$T/m" && mkdir "$T/m/sub" && mount_objmig a "$T/m/sub" && mount_objmig a:sub "$T/n" || die "no mounts of a"
mount -t tmpfs -o size=1m none "$T/n"
a=$(daemon_pids)
CACHE=$T/cache-b
ok "mount b" mount_objmig b "$T/b"
b=$(daemon_pids | grep -vx "$a")
is "no copy of a is left in b" "$(grep "$T/[mn]" "/proc/$b/mountinfo")" ''
is "all of a still is where it was" "$(grep -c "$T/[mn]" /proc/self/mountinfo)" 4
ok "umount all of a" umount "$T/n" "$T/n" "$T/m/sub" "$T/m"
ok "a ends" within 60 gone "$a"
ok "umount b, of the second daemon" umount_objmig "$T/b"
ok "it ends" daemon_gone

# ---- the daemon dies between the helper's look at the directory and its lock

CACHE=$T/cache-a
ok "mount a again" mount_objmig a "$T/a"
ok "and a directory of it" mount_objmig a:sub "$T/sub"
exec 9>>"$CACHE/mount.lock"
flock 9
mount_only a "$T/a" >"$T/late.out" 2>&1 9>&- &
late=$!
waits() { grep -qs 'flock\|locks_lock' "/proc/$(pgrep -P $late -x mount.objmig || echo $late)/wchan" ||
    grep -q "^[0-9]*: -> FLOCK .*:$(stat -c %i "$CACHE/mount.lock") " /proc/locks; }
within 60 waits || fail "the helper waits for the lock" "$(cat /proc/locks)"
for pid in $(daemon_pids); do
    [ "$(cat "/proc/$pid/comm")" != objmig ] || kill -KILL "$pid"
done
exec 9>&-
wait $late
is "the helper mounts all the same" "$? $(cat "$T/late.out")" "0 "
ok "the mount works" ls "$T/a"
ok "and so does the other" ls "$T/sub"
is "each is mounted once" "$(grep -c " $T/\(a\|sub\) " /proc/self/mountinfo)" 2

# ---- kill -9 and mount at once, often

make_file "$T/data" $((96 << 20))
failed=0
for i in $(seq 30); do
    cp "$T/data" "$T/a/copy" || failed=$((failed + 1))
    kill -KILL $(daemon_pids)
    mount_only a "$T/a" || failed=$((failed + 1))
done
is "30 times cp, kill -9, mount: none fails" $failed 0
is "each is still mounted once" "$(grep -c " $T/\(a\|sub\) " /proc/self/mountinfo)" 2
ok "the last copy is whole" cmp "$T/data" "$T/a/copy"
ok "umount both" umount "$T/a" "$T/sub"
ok "the daemon ends" daemon_gone
done_testing
