#!/bin/bash
# The rules of the design that concern the kernel, the mounts and the daemon's life and that no other script would notice if they
# were broken. tests/README.md says which rule is tested where.
# timeout: 600
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
ONE=one-1250000000 TWO=two-1250000000
start_cos --bucket $ONE --bucket $TWO
# What was held for longer than that is sent again, and settles as long: by default five minutes.
conf_cos one bucket=$ONE bigFileUploadPartSize=1M smallFileThreshold=1M requestTimeoutMs=30000
conf_cos two bucket=$TWO requestTimeoutMs=30000
conf_local nas "$T/bucket"
A=$T/a B=$T/b N=$T/n
gone() { ! kill -0 "$1" 2>/dev/null; }
flags() { awk -v d="$1" '$5 == d { f = $6 } END { print f }' /proc/self/mountinfo; }
minor() { awk -v d="$1" '$5 == d { split($3, n, ":"); print n[2] }' /proc/self/mountinfo; }
# Held until in_time: who needs an upload to end waits, whoever is looked at meanwhile did not need it.
uploads_late() { for op in PutObject UploadPart; do cos_fault "{\"op\":\"$op\",\"action\":\"hold\",\"count\":0}"; done; }
in_time() { cos_ctl DELETE faults >/dev/null; }
spool_used() { timeout 60 python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["spool"]["used"])' "$A/.objmig/status"; }

ok "mount one" mount_objmig one "$A" cache_size=64M,allow_other
ok "mount two" mount_objmig two:deep/er "$B" cache_size=64M
ok "mount the local one" mount_objmig nas "$N" cache_size=64M

# ---- what the kernel was told (F2, F6, F7)

mkdir "$T/fusectl"
mount -t fusectl none "$T/fusectl" || die "no fusectl"
is "requests the kernel lets be outstanding" "$(cat "$T/fusectl/$(minor "$A")/max_background")" 1024
is "and before it calls it congestion" "$(cat "$T/fusectl/$(minor "$A")/congestion_threshold")" 768
umount "$T/fusectl"
is "the kernel reads ahead" "$(cat "/sys/class/bdi/0:$(minor "$A")/read_ahead_kb")" 4096
echo content >"$A/x"
ok "xattrs: security.* is none, ACLs are refused, and nothing turns them off" python3 - "$A/x" <<'END'
import errno, os, sys
def fails(want, call, *args):
    try:
        call(*args)
    except OSError as e:
        assert e.errno == want, (call, args, e)
    else:
        raise AssertionError((call, args))
f = sys.argv[1]
fails(errno.ENODATA, os.getxattr, f, 'security.capability')
fails(errno.EOPNOTSUPP, os.getxattr, f, 'system.posix_acl_access')
fails(errno.EOPNOTSUPP, os.setxattr, f, 'system.posix_acl_access', b'\2\0\0\0')
fails(errno.EOPNOTSUPP, os.setxattr, f, 'security.x', b'1')
os.setxattr(f, 'user.x', b'1')
assert os.getxattr(f, 'user.x') == b'1'
END
if command -v setfacl >/dev/null && mkdir "$T/acl" && setfacl -m u:65534:rwx "$T/acl" 2>/dev/null; then
    chmod 755 "$T/acl"
    cp -a "$T/acl" "$A/acl" 2>/dev/null
    is "cp -a of a directory with an ACL keeps its mode" "$(stat -c %a "$A/acl")" "$(stat -c %a "$T/acl")"
else
    skip "cp -a of a directory with an ACL" "no ACLs here"
fi
ok "only what is opened to write alone bypasses the page cache" python3 - "$A" <<'END'
import ctypes, mmap, os, sys
c = ctypes.CDLL(None, use_errno=True)
c.mmap.restype = ctypes.c_void_p
c.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
c.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
data = os.urandom(1 << 20)
path = os.path.join(sys.argv[1], 'cached')
for flags, keeps in ((os.O_WRONLY, False), (os.O_RDWR, True)):
    with open(path, 'wb') as f:
        f.write(data)
    # Looked at through what is open already: another open, or a stat, would make the kernel forget its pages.
    reader, fd = os.open(path, os.O_RDONLY), os.open(path, flags)
    at = c.mmap(None, len(data), mmap.PROT_READ, mmap.MAP_SHARED, reader, 0)
    def cached():
        seen = ctypes.create_string_buffer(len(data) // 4096)
        assert c.mincore(at, len(data), seen) == 0
        return sum(b & 1 for b in seen.raw)
    assert os.pread(reader, len(data), 0) == data and cached() > 0
    os.write(fd, data)
    assert (cached() > 0) == keeps, (flags, cached())
    os.close(fd)
    os.close(reader)
END
ok "copy_file_range: append refused, reflink refused, mapped pages come along, the size is right at once" python3 - "$A" <<'END'
import ctypes, errno, mmap, os, subprocess, sys
os.chdir(sys.argv[1])
with open('src', 'wb') as f:
    f.write(b'a' * 100000)
s = os.open('src', os.O_RDWR)
t = os.open('dst', os.O_RDWR | os.O_CREAT)
app = os.open('app', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
try:
    os.copy_file_range(s, app, 10)
    raise AssertionError('append')
except OSError as e:
    assert e.errno == errno.EBADF, e
r = subprocess.run(['cp', '--reflink=always', 'src', 'linked'], capture_output=True)
assert r.returncode != 0 and b'not supported' in r.stderr, r
m = mmap.mmap(s, 100000, mmap.MAP_SHARED)
m[50000:50005] = b'DIRTY'
assert os.pread(t, 10, 0) == b''
n = 0
while n < 100000:
    n += os.copy_file_range(s, t, 100000 - n, n, n)
assert os.fstat(t).st_size == 100000
got = os.pread(t, 200000, 0)
assert got[50000:50005] == b'DIRTY' and len(got) == 100000, (len(got), got[49990:50010])
END
ok "mount all" mount_objmig all "$T/all" cache_size=64M
is "a rename from remote to remote is EXDEV" "$(python3 -c 'import errno, os, sys
try: os.rename(*sys.argv[1:])
except OSError as e: print(errno.errorcode[e.errno])' "$T/all/one/x" "$T/all/nas/x")" EXDEV
umount "$T/all"

# ---- names and numbers (E2)

ok "a prefix that nobody has yet is there" ls "$B"
ok "something comes" touch "$B/f"
ok "and goes" rm "$B/f"
ok "wait" objmig wait -q "$B"
ok "it still is there" ls "$B"
ok "so is it when it is looked up afresh" bash -c 'sleep 1.2; cd "$1" && [ -z "$(ls -A)" ]' - "$B"
echo 1 >"$N/x"
number=$(stat -c %i "$A/x")
nok "numbers differ between remotes" test "$number" = "$(stat -c %i "$N/x")"

# ---- writers that wait for room keep nobody else waiting (F1)

uploads_late
pids=()
write_some() {
    for n in $(seq "$1" "$2"); do
        dd if=/dev/zero of="$A/w$n" bs=1M count=8 2>/dev/null &
        pids+=($!)
    done
}
write_some 1 17
full() { [ "$(spool_used)" -ge $((56 << 20)) ] && [ "$(jobs -r | wc -l)" -ge 9 ]; }
ok "17 writers fill the spool and wait" within 60 full
# These have room for none of theirs: the first request of each is taken, and waits.
write_some 18 20
waiting() { [ -s "$A/w18" ] && [ -s "$A/w19" ] && [ -s "$A/w20" ]; }
ok "so do three more" within 60 waiting
python3 - "$A/alarm" >"$T/alarm" 2>&1 <<'END' &
import ctypes, os, signal, sys
c = ctypes.CDLL(None, use_errno=True)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, True)
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
data = b'x' * 1000000
for k in range(3):
    n = c.write(fd, data, len(data))
    assert n == len(data), (k, n, ctypes.get_errno())
signal.signal(signal.SIGALRM, signal.SIG_IGN)
os.close(fd)
print('written')
END
alarmed=$!
sleep 1
ok "who looks at a file does not wait" timeout 60 stat "$A/w1"
ok "nor who lists" timeout 60 ls -l "$A"
ok "nor who makes a directory" timeout 60 mkdir "$A/dir"
ok "nor who renames" timeout 60 mv "$A/dir" "$A/dir2"
ok "nor who reads another remote" timeout 60 cat "$N/x"
ok "the control file answers" timeout 60 cat "$A/.objmig/status"
ok "fsync of a directory does not wait for the provider" timeout 60 sync "$A/dir2"
kill -INT "${pids[18]}" && kill -KILL "${pids[19]}"
kill -TERM "${pids[17]}"
ok "a writer that waits dies of SIGKILL" within 60 gone "${pids[19]}"
ok "and of SIGTERM" within 60 gone "${pids[17]}"
ok "still the others wait" test "$(jobs -r | wc -l)" -ge 10
in_time
for n in $(seq 0 16); do
    wait "${pids[$n]}" || fail "writer $n ends well" "$?"
done
wait $alarmed
is "SIGALRM breaks no write" "$(cat "$T/alarm")" written
rm -f "$A"/w1[89] "$A/w20"
ok "wait" objmig wait -q "$A" --timeout=300
is "all of it arrived" "$(for n in $(seq 17); do COS_BUCKET=$ONE cos_stat "w$n" size; done | sort | uniq -c | xargs)" "17 $((8 << 20))"

# ---- wait: open files are named, not waited for (E6)

bash -c 'printf data; exec sleep 1000' >"$A/held" &
held=$!
within 60 test -s "$A/held"
said=$(timeout 300 objmig wait "$A" 2>&1)
is "wait with an open file ends" $? 0
matches "and says so" "$said" open
kill $held
wait $held 2>/dev/null

# ---- who may enter, what is shown (G1, G7, G8)

as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
chmod 755 "$T"
is "without allow_other the directory is ours alone" "$(stat -c %a "$B")" 700
nok "nobody else enters" as_nobody ls "$B"
ok "with it they do" as_nobody ls "$A"
is "nothing hidden is mounted in the machine's name space" "$(grep -c " $CACHE" /proc/self/mountinfo)" 0
is "df has one line for all" "$(df 2>/dev/null | grep -c "$T/[abn]\$")" 1
mkdir "$A/cache" "$A/bucket" "$T/d"
chmod 700 "$A/cache"
said=$(timeout 60 mount.objmig nas "$T/d" -o "config=$CONF,cache=$A/cache,log=$LOG" 2>&1)
is "a cache directory in a mount of ours: status" $? 1
matches "it says so" "$said" 'cache=.*inside an objmig mount'
(CONF=$T/loop.conf && conf_local loop "$A/bucket")
said=$(timeout 60 mount.objmig loop "$T/d" -o "config=$T/loop.conf,cache=$CACHE,log=$LOG" 2>&1)
is "a local remote in a mount of ours: status" $? 1
matches "that says so, too" "$said" 'path .*inside an objmig mount'

# ---- kill -9: each mount comes back with its flags (G4)

ok "a fourth, read-only, for no programs" mount_objmig all "$T/all" cache_size=64M,ro,noexec
kill_daemon KILL
ok "one of them is mounted again" mount_objmig one "$A" cache_size=64M,allow_other
for d in "$A" "$B" "$N" "$T/all"; do
    ok "${d##*/} works" timeout 60 ls "$d"
    is "${d##*/} is mounted once" "$(grep -c " $d " /proc/self/mountinfo)" 1
done
matches "all is read-only still" "$(flags "$T/all")" '^ro.*noexec'
is "numbers are the same after it" "$(stat -c %i "$A/x")" "$number"
ok "umount" umount "$T/all" "$N"

# ---- a fault of the daemon's own: it says where, and is like kill -9

log=$LOG LOG=$T/crashed
if [ -z "${OBJMIG_SANITIZED:-}" ]; then
    ok "umount, for a log of its own" umount "$A" "$B"
    ok "the daemon ends" daemon_gone
    ok "mount" mount_objmig one "$A" cache_size=64M,allow_other
    echo accepted >"$A/before-the-crash"
    # In a thread that takes no signals: its own faults it takes.
    for task in /proc/"$(daemon_pids)"/task/*; do [ "$(cat "$task/comm")" != journal ] || tid=${task##*/}; done
    python3 -c 'import ctypes, sys; ctypes.CDLL(None).tgkill(int(sys.argv[1]), int(sys.argv[2]), 11)' "$(daemon_pids)" "$tid"
    ok "a daemon that crashes ends" within 60 _no_daemon
    matches "it says of what" "$(cat "$LOG")" 'event=crash signal=SIGSEGV'
    matches "and where" "$(cat "$LOG")" 'stack="[^"]*mount\.objmig\+0x'
    LOG=$log
    ok "it is mounted again" mount_objmig one "$A" cache_size=64M,allow_other
    is "and has what it accepted" "$(cat "$A/before-the-crash")" accepted
    ok "two, too" mount_objmig two:deep/er "$B" cache_size=64M
else
    skip "a daemon that crashes says where" "sanitizers have last words of their own"
fi
LOG=$log

# ---- umount -l: an open file is written on (G2)

exec 7>"$B/after"
echo before >&7
umount -l "$B"
ok "it takes bytes" bash -c 'echo after >&7'
exec 7>&-

# ---- SIGTERM: drains (G3)

uploads_late
echo late >"$A/late"
cd "$A" || die "no mount"
kill -TERM "$(daemon_pids)"
ok "SIGTERM takes the mounts away" within 60 bash -c '! grep -q " $1 " /proc/self/mountinfo' - "$A"
nok "nothing new is opened" timeout 5 cat x
in_time
cd /
ok "it drains and ends" within 60 _no_daemon
is "what was accepted before is there" "$(COS_BUCKET=$ONE cos_cat late)" late
is "and what was written after umount -l" "$(COS_BUCKET=$TWO cos_cat deep/er/after)" $'before\nafter'

# ---- SIGTERM: the time to drain is bounded, the journal keeps the rest (G3, E6)

ok "mount" mount_objmig one "$A" stop_timeout=2
cos_fault '{"op":"PutObject","action":"status","status":503,"count":0}'
echo kept >"$A/kept"
kill -TERM "$(daemon_pids)"
ok "it ends after stop_timeout" within 60 _no_daemon
timeout 300 objmig wait -q --cache "$CACHE"
is "wait says that work is left and nobody does it" $? 3
in_time
ok "mounted again" mount_objmig one "$A"
ok "it goes on" objmig wait -q "$A" --timeout=300
is "and arrives" "$(COS_BUCKET=$ONE cos_cat kept)" kept
umount "$A"
ok "the daemon ends" daemon_gone

# ---- the command line (G5, G8)

nok "an unknown option is refused" mount.objmig nas "$N" -o "config=$CONF,cache=$CACHE,log=$LOG,colour=blue"
ok "but for -s; -n and -v are nothing new" mount.objmig nas "$N" -s -n -v -o "config=$CONF,cache=$CACHE,log=$LOG,colour=blue"
ok "it is mounted" mountpoint -q "$N"
umount "$N"
daemon_gone
mount.objmig nas "$N" -F -o "config=$CONF,cache=$CACHE,log=$LOG" >"$T/foreground.out" 2>&1 &
foreground=$!
ok "-F mounts" within 60 mountpoint -q "$N"
ok "and stays" kill -0 $foreground
umount "$N"
ok "as long as the mount" within 60 gone $foreground
wait $foreground
is "and says how it ended" $? 0
echo 7 >"$T/seconds"
ok "with a time limit on requests it mounts all the same" unshare -m --propagation private bash -c '
    mount --bind "$1/seconds" /proc/sys/fs/fuse/default_request_timeout && mkdir -p "$1/limited" &&
    mount.objmig nas "$1/limited" -o "config=$2,cache=$1/limited-cache,log=$1/limited.log" && umount "$1/limited"' - "$T" "$CONF"
ok "and warns" within 60 grep -q 'event=request-timeout .*seconds=7' "$T/limited.log"
ok "that daemon ends, too" daemon_gone
done_testing
