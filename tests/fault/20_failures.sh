#!/bin/bash
# What goes wrong while the mount runs (architecture section 10): each trouble ends or passes as documented, nothing hangs, all
# other files go on, and what was accepted arrives, once and whole. Most cases run at the same time, each on a remote of its own:
# token, denied, room, gone, slow, hole, torn, reset, src. What is in the remote "good" is what must not be troubled.
# timeout: 900
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
MNT=$T/mnt
REMOTES=(good token denied room gone slow hole torn full)
BUCKETS=()
for name in "${REMOTES[@]}"; do BUCKETS+=(--bucket "$name-1250000000"); done
start_cos "${BUCKETS[@]}" --cred AKIDtestTESTtestTEST:testSecretKeyForTestsOnly --cred AKIDtemp:tempSecret:token-one
start_s3fast --bucket src --bucket reset
start_proxy "127.0.0.1:$S3FAST_PORT"

# ---- tools

SIZES="smallFileThreshold=1048576 bigFileUploadPartSize=1048576"
SOON="requestTimeoutMs=5000 requestTryCount=3"
for name in "${REMOTES[@]}"; do
    more=()
    [ "$name" != token ] || more=(accessKeyId=AKIDtemp accessKeySecret=tempSecret securityToken=token-one)
    # shellcheck disable=SC2086
    conf_cos "$name" "bucket=$name-1250000000" $SIZES $SOON ${more[@]+"${more[@]}"}
done
for name in src reset; do
    # shellcheck disable=SC2086
    conf_s3fast "$name" "$name" bigFileUploadPartSize=5242880 smallFileThreshold=1048576 $SOON "connectTo=127.0.0.1:$PROXY_PORT"
done

# fault_on JSON: sets ID, for fault_off ID.
fault_on() { ID=$(cos_ctl POST fault "$1" | sed 's/.*"id":\([0-9]*\).*/\1/'); [ -n "$ID" ] || die "bad fault: $1"; }
fault_off() { cos_ctl DELETE "fault/$1" >/dev/null; }

s3f() {
    RGW_REGION=$S3FAST_REGION RGW_ACCESS_KEY=$S3FAST_ACCESS_KEY RGW_SECRET_KEY=$S3FAST_SECRET_KEY RGW_ENDPOINT=$S3FAST_ENDPOINT s3 "$@"
}

# status PATH PYTHON: an expression over s, the status object, and r, its remotes by name.
status() {
    objmig status --json "$1" | python3 -c 'import json, sys
s = json.load(sys.stdin)
r = {x["name"]: x for x in s["remotes"]}
print('"$2"')'
}
paused() { [ "$(status "$MNT/$1" "r['$1']['paused']")" = True ]; }
why() { status "$MNT/$1" "r['$1'].get('why', '')"; }

# wait_is NAME REMOTE STATUS: objmig wait ends, and so. What went wrong is tried again after 30 s at the latest.
wait_is() {
    timeout 300 objmig wait -q "$MNT/$2" >"$T/wait.out" 2>&1
    is "$1 (objmig wait: $3)" $? "$3"
}

# copy_in REMOTE: the tree, under keys which begin with the remote's name.
copy_in() {
    mkdir -p "$MNT/$1/$1" && timeout 60 cp -r "$T/tree/." "$MNT/$1/$1/" || fail "cp into $1 is accepted"
    # Resets at 5 % are for many requests.
    [ "$1" != reset ] || for n in $(seq 100); do echo "$n" >"$MNT/reset/reset/many$n"; done
}

# all_there NAME REMOTE: every file of the tree is at the provider, byte by byte; no upload is left.
all_there() {
    local f key bad=''
    for f in $FILES; do
        key=$2/$f
        if [ "$2" = reset ]; then
            [ "$(s3f GET "/reset/$key" | md5sum | cut -d' ' -f1)" = "$(md5_of "$T/tree/$f")" ] || bad+=" $f"
        else
            [ "$(COS_BUCKET=$2-1250000000 cos_stat "$key" md5)" = "$(md5_of "$T/tree/$f")" ] || bad+=" $f"
        fi
    done
    is "$1: all of it is there" "$bad" ""
    is "$1: no upload is left" "$(uploads_of "$2")" 0
}
uploads_of() {
    if [ "$1" = reset ]; then
        s3f GET "/reset?uploads=" | grep -c '<UploadId>'
    else
        cos_ctl GET uploads | python3 -c 'import json, sys; print(sum(u["bucket"] == sys.argv[1] + "-1250000000" for u in json.load(sys.stdin)))' "$1"
    fi
}

# errno_of PYTHON: the name of the errno with which it ends, "" when it succeeds.
errno_of() {
    timeout 90 python3 -c 'import errno, os, sys
try:
    exec(sys.argv[1])
except OSError as e:
    print(errno.errorcode[e.errno])' "$1" || echo "ends with $?"
}
fsync_errno() {
    errno_of "
fd = os.open('$1', os.O_CREAT | os.O_WRONLY, 0o644)
os.write(fd, b'to be synced')
os.fsync(fd)"
}

for n in $(seq 12); do make_file "$T/tree/small/$n" $((n * n * 331)) "$n"; done
make_file "$T/tree/large" $((4 << 20)) 99
FILES=$(cd "$T/tree" && find . -type f -printf '%P\n' | sort)

# ---- all troubles begin

# Half of these are still on their way when the token ends and the bucket goes; the large file with its upload begun.
fault_on '{"key":"^(token|gone)/small/1","action":"status","status":503,"code":"SlowDown","count":0}'
HALF=$ID
fault_on '{"key":"^(token|gone)/large","op":"UploadPart","skip":1,"action":"status","status":503,"code":"SlowDown","count":0}'
HALF+=" $ID"
fault_on '{"key":"^denied/small/1$","op":"PutObject","action":"status","status":403,"code":"AccessDenied","message":"not this one"}'
fault_on '{"key":"^denied/large$","op":"UploadPart","skip":2,"action":"status","status":403,"code":"AccessDenied","message":"not this part"}'
fault_on '{"key":"^room/","action":"status","status":403,"code":"QuotaExceeded","message":"the room is used up","count":0}'
ROOM=$ID
fault_on '{"key":"^slow/","action":"status","status":503,"code":"SlowDown","count":0}'
SLOW=$ID
fault_on '{"key":"^torn/","op":"CompleteMultipartUpload","action":"lost"}'
fault_on '{"key":"^torn/","op":"PutObject","action":"lost","count":2}'
head -c 3000000 "$T/tree/large" >"$T/there"
COS_BUCKET=hole-1250000000 cos_put hole/there "$T/there"
s3f PUT /src/whole -T "$T/tree/large" >/dev/null
s3f PUT /src/part -T "$T/tree/large" >/dev/null

ok "it mounts" mount_objmig all "$MNT" writeback_delay=0.2,list_ttl=1,wait_timeout=20
is "hole: before there is one, it is listed" "$(ls "$MNT/hole/hole")" there
fault_on '{"key":"^hole/","action":"blackhole","count":0}'
HOLE=$ID
proxy_fault '{"path":"^/reset/","action":"reset","every":20,"count":0}'
proxy_fault '{"path":"^/reset/","method":"PUT","action":"drop","every":21,"count":0}'
BEGAN=$SECONDS
for name in token denied room gone slow hole torn reset; do copy_in $name; done
( before=$SECONDS
  errno_of "open('$MNT/hole/hole/there', 'rb').read()" >"$T/hole.read"
  echo $((SECONDS - before)) >"$T/hole.seconds" ) &
hole_reader=$!


# ---- in mid-copy the token expires, and a bucket is deleted

some_of() { [ -n "$(COS_BUCKET=$1-1250000000 cos_keys)" ]; }
ok "token: the copy has begun" within 150 some_of token
ok "gone: so has the other" within 150 some_of gone
# Opened before: without a token no name can be looked up.
( errno_of "
import time
fd = os.open('$MNT/token/token/synced', os.O_CREAT | os.O_WRONLY, 0o644)
open('$T/opened', 'w')
while not os.path.exists('$T/expired'):
    time.sleep(0.05)
os.write(fd, b'to be synced')
os.fsync(fd)" >"$T/token.errno" ) &
syncer=$!
ok "token: a file is being written" within 150 test -e "$T/opened"
cos_ctl POST cred '{"id":"AKIDtemp","expired":true}' >/dev/null
cos_ctl DELETE bucket/gone-1250000000 >/dev/null
for id in $HALF; do fault_off "$id"; done

# ---- meanwhile: files elsewhere go on, and who looks does not wait behind a backlog

copy_in good
wait_is "good: goes on beside all this" good 0
all_there good good
ok "slow: a listing is answered beside its backlog" timeout 20 ls "$MNT/slow"
ok "good: is read meanwhile" timeout 60 cmp "$MNT/good/good/large" "$T/tree/large"

# ---- lost reply of Complete

wait_is "torn: lost replies are looked up" torn 0
all_there torn torn
is "torn: Complete was sent once" "$(grep -F '"bucket":"torn-1250000000"' "$COS_LOG" | grep -cF '"op":"CompleteMultipartUpload"')" 1

# ---- 403 on one key, and on one part

wait_is "denied: two files fail" denied 2
said=$(objmig errors "$MNT/denied")
is "denied: one line a file" "$(wc -l <<<"$said")" 2
matches "denied: key, code and request id of the first" "$said" $'denied/small/1\t403 AccessDenied: [^\n]*not this one[^\n]*request id'
matches "denied: and of the second" "$said" $'denied/large\t403 AccessDenied: [^\n]*not this part'
is "denied: nothing is paused" "$(status "$MNT" "r['denied']['paused']")" False
matches "denied: the file's own attribute says so" "$(getfattr --only-values -n user.objmig.error "$MNT/denied/denied/small/1" 2>&1)" AccessDenied
ok "denied: its bytes are kept" cmp "$MNT/denied/denied/large" "$T/tree/large"
is "denied: fsync has the error" "$(errno_of "os.fsync(os.open('$MNT/denied/denied/small/1', os.O_RDONLY))")" EACCES
objmig retry "$MNT/denied" >/dev/null
wait_is "denied: tried again by hand" denied 0
all_there denied denied

# ---- an expired token: paused, queued, and goes on when the file has a new one

ok "token: the remote is paused" within 150 paused token
matches "token: and says why" "$(why token)" '400.*(ExpiredToken|securityToken in \[token\] expired)'
wait_is "token: waiting ends" token 3
is "token: no file failed" "$(status "$MNT/token" "s['pending']['failed']")" 0
touch "$T/expired"
wait $syncer
is "token: fsync has the error" "$(cat "$T/token.errno")" EACCES
cos_ctl POST cred '{"id":"AKIDtemp","expired":false,"token":"token-two"}' >/dev/null
sed -i 's/^securityToken = token-one/securityToken = token-two/' "$CONF"
wait_for_token() { [ "$(status "$MNT/token" "s['pending']['files']")" = 0 ]; }
ok "token: goes on when the configuration has a new one" within 150 wait_for_token
wait_is "token: all is done" token 0
all_there token token
is "token: what fsync left arrived, too" "$(COS_BUCKET=token-1250000000 cos_ctl GET object/token-1250000000/token/synced)" "to be synced"
is "token: no secret in the log" "$(grep -cE 'token-one|token-two|tempSecret' "$LOG")" 0

# ---- quota

ok "room: the remote is paused" within 150 paused room
matches "room: and says why" "$(why room)" '403 QuotaExceeded'
matches "room: errors has the line" "$(objmig errors "$MNT/room")" $'^paused\troom\t'
is "room: no file failed" "$(status "$MNT/room" "s['pending']['failed']")" 0
is "room: fsync has the error" "$(fsync_errno "$MNT/room/room/synced")" EDQUOT
fault_off "$ROOM" # and nobody says so: it is to be found out

# ---- the bucket is gone

ok "gone: the remote is paused" within 150 paused gone
matches "gone: and says why" "$(why gone)" '404 NoSuchBucket'
is "gone: no file failed" "$(status "$MNT/gone" "s['pending']['failed']")" 0
ok "gone: nobody hangs in it" timeout 30 bash -c "ls $MNT/gone >/dev/null 2>&1; true"
cos_ctl PUT bucket/gone-1250000000 >/dev/null
objmig retry "$MNT/gone" >/dev/null
wait_is "gone: made anew, and told to try" gone 0
# What had arrived before went with the bucket.
FILES=$(grep -E '^(large|small/1)' <<<"$FILES") all_there gone gone

# ---- the source changes while it is copied

# No byte of it leaves before its new version is there.
READS=$(proxy_ctl POST fault '{"path":"^/src/","op":"GetObject","action":"hold","count":0}' | sed 's/.*"id":\([0-9]*\).*/\1/')
make_file "$T/new" $((4 << 20)) 7
timeout 30 cp "$MNT/src/whole" "$MNT/good/whole"
errno=$(errno_of "
src, dst = os.open('$MNT/src/part', os.O_RDONLY), os.open('$MNT/good/part', os.O_CREAT | os.O_WRONLY, 0o644)
os.write(dst, b'head')
n = os.copy_file_range(src, dst, 2 << 20, 0, 4)
assert n == 2 << 20, n")
is "src: half a source is copied" "$errno" ""
s3f PUT /src/whole -T "$T/new" >/dev/null
s3f PUT /src/part -T "$T/new" >/dev/null
proxy_ctl DELETE "fault/$READS" >/dev/null
wait_is "src: a part of what is no more fails" good 2
matches "src: and says so" "$(objmig errors "$MNT/good")" $'^failed\tgood\tpart\t[^\n]*$'
is "src: nothing of a mixture is there" "$(COS_BUCKET=good-1250000000 cos_has part && echo there)" ""
is "src: the whole copy is the new version" "$(COS_BUCKET=good-1250000000 cos_stat whole md5)" "$(md5_of "$T/new")"
proxy_ctl GET faults >"$T/faults"
rm "$MNT/good/part"
wait_is "src: given up, all is well" good 0

# ---- one connection in twenty is reset, and more answers are lost

wait_is "reset: arrives all the same" reset 0
all_there reset reset
many=$(for n in $(seq 100); do s3f GET "/reset/reset/many$n"; done)
is "reset: and the many small ones" "$many" "$(seq 100)"
at_least "reset: it was troubled" "$(grep -cE '"fault":"(reset|drop)"' "$PROXY_LOG")" 3
is "reset: no file failed" "$(status "$MNT/reset" "s['pending']['failed']")" 0

# ---- 30 s of 503, 30 s of nothing at all

wait $hole_reader
is "hole: a read ends with EIO" "$(cat "$T/hole.read")" EIO
at_most "hole: after its time-outs, in seconds" "$(cat "$T/hole.seconds")" 60
while [ $((SECONDS - BEGAN)) -lt 30 ]; do sleep 0.5; done
is "slow: none failed in 30 s" "$(status "$MNT/slow" "s['pending']['failed']")" 0
is "hole: none failed in 30 s" "$(status "$MNT/hole" "s['pending']['failed']")" 0
is "slow: none arrived" "$(COS_BUCKET=slow-1250000000 cos_keys)" ""
fault_off "$SLOW"
fault_off "$HOLE"
wait_is "slow: goes on by itself" slow 0
all_there slow slow
wait_is "hole: goes on by itself" hole 0
all_there hole hole
ok "hole: and is read again" timeout 60 cmp "$MNT/hole/hole/there" "$T/there"
wait_for_room() { [ "$(status "$MNT/room" "s['pending']['files']")" = 0 ]; }
ok "room: went on by itself, too" within 150 wait_for_room
wait_is "room: all is done" room 0
all_there room room

# ---- the clock is 20 minutes off

cos_ctl POST clock '{"offset_s":1200,"code":"RequestTimeTooSkewed"}' >/dev/null
cp "$T/new" "$MNT/good/ahead"
wait_is "clock: ahead" good 0
cos_ctl POST clock '{"offset_s":-1200,"code":"AccessDenied"}' >/dev/null
cp "$T/new" "$MNT/good/behind"
wait_is "clock: and behind" good 0
is "clock: what was sent meanwhile is there" "$(COS_BUCKET=good-1250000000 cos_stat behind md5)" "$(md5_of "$T/new")"
is "clock: said once" "$(grep -c 'remote=good clock_offset_s=' "$LOG")" 1
cos_ctl POST clock '{"offset_s":0}' >/dev/null
umount_objmig "$MNT"
ok "the daemon ends" daemon_gone

# ---- the disk of spool and journal is full

mkdir "$T/disk"
mount -t tmpfs -o size=48m none "$T/disk" || die "no tmpfs"
CACHE=$T/disk/cache
MNT2=$T/mnt2
ok "full: it mounts on a small disk" mount_objmig full "$MNT2" writeback_delay=0.2,wait_timeout=15
make_file "$T/much" $((64 << 20)) 5
ok "full: writers of more than fits wait for uploads" timeout 90 split -b 4m "$T/much" "$MNT2/ok-"
fault_on '{"key":"^stuck","action":"status","status":503,"code":"SlowDown","count":0}'
FULL=$ID
errno=$(errno_of "
for n in range(100):
    with open('$MNT2/stuck%d' % n, 'wb') as f:
        f.write(b'%03d' % n * 1000000)
    open('$T/accepted', 'w').write(str(n + 1))")
is "full: when nothing drains, the writer is told" "$errno" ENOSPC
fault_off "$FULL"
objmig wait -q "$MNT2"
bad=''
for n in $(seq 0 $(($(cat "$T/accepted") - 1))); do
    want=$(python3 -c 'import hashlib, sys; print(hashlib.md5(b"%03d" % int(sys.argv[1]) * 1000000).hexdigest())' "$n")
    [ "$(COS_BUCKET=full-1250000000 cos_stat "stuck$n" md5)" = "$want" ] || bad+=" $n"
done
is "full: what was accepted arrived ($(cat "$T/accepted") files)" "$bad" ""
objects=$(for f in "$MNT2"/ok-*; do COS_BUCKET=full-1250000000 cos_cat "$(basename "$f")"; done | md5sum)
is "full: and so did what writers waited for" "$objects" "$(md5sum <"$T/much")"

# Cached bytes go first, and make room again: which is filled as well.
is "journal: without room for it a new file is refused" "$(errno_of "
filler = os.open('$T/disk/filler', os.O_CREAT | os.O_WRONLY | os.O_APPEND)
def fill():
    for size in 65536, 512:
        try:
            while True:
                os.write(filler, bytes(size))
        except OSError:
            pass
for n in range(2000):
    fill()
    fd = os.open('$MNT2/j%d' % n, os.O_CREAT | os.O_WRONLY, 0o644)
    os.write(fd, b'x')
    os.close(fd)
    open('$T/accepted', 'w').write(str(n + 1))")" ENOSPC
ok "journal: what is there is read" timeout 60 cmp -n 1000 "$MNT2/ok-aa" "$T/much"
rm "$T/disk/filler"
again() { echo again >"$MNT2/again"; }
ok "journal: with room it goes on by itself" within 150 again
ok "journal: and all arrives" timeout 300 objmig wait -q "$MNT2"
is "journal: also what was accepted before" "$(COS_BUCKET=full-1250000000 cos_keys j | wc -l)" "$(ls "$MNT2" | grep -c '^j')"
is "journal: the last one is" "$(COS_BUCKET=full-1250000000 cos_ctl GET object/full-1250000000/again)" again

# ---- the cache is read only

kill_daemon KILL
umount -l "$MNT2"
ok "cache: its disk becomes read only" mount -o remount,ro "$T/disk"
said=$(mount.objmig full "$MNT2" -o "config=$CONF,cache=$CACHE,log=$LOG" 2>&1)
is "cache: refused" $? 1
matches "cache: in one line which names it" "$said" "^[^"$'\n'"]*$CACHE[^"$'\n'"]*$"
nok "cache: nothing is mounted" mountpoint -q "$MNT2"
ok "cache: status can be read" timeout 20 objmig status --cache "$CACHE"
mount -o remount,rw "$T/disk"
ok "cache: writable again, it mounts" mount_objmig full "$MNT2"
ok "cache: and works" cmp -n 1000 "$MNT2/ok-aa" "$T/much"
umount_objmig "$MNT2"
ok "the second daemon ends" daemon_gone
umount "$T/disk"
done_testing
