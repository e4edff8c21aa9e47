#!/bin/bash
# What is wrong is said at the mount: one clear line, exit status 1, nothing mounted.
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
need_rgw
start_cos
BUCKET=$(new_bucket) || die "no bucket"
DIR=$T/mnt
mkdir "$DIR" "$CACHE"
chmod 700 "$CACHE"

# refused NAME REGEX COMMAND …: it fails as it should. The line names the remote and the key of the configuration to look at.
refused() {
    local name=$1 want=$2 rc lines text
    shift 2
    timeout 100 "$@" >"$T/said.out" 2>"$T/said.err"
    rc=$?
    text=$(cat "$T/said.err")
    lines=$(wc -l <"$T/said.err")
    if [ $rc != 1 ] || [ "$lines" != 1 ] || [ -s "$T/said.out" ] || ! grep -qiE "$want" <<<"$text"; then
        fail "$name" "status $rc, $lines lines; one line which matches $want is wanted" "$text" "$(cat "$T/said.out")"
    elif grep -qF -e "$RGW_SECRET_KEY" -e "$COS_SECRET_KEY" -e wrongSecret <<<"$text"; then
        fail "$name" "the secret is shown: $text"
    else
        pass "$name: $text"
    fi
    if mountpoint -q "$DIR"; then
        fail "$name: nothing is mounted" "$(grep "$T" /proc/self/mountinfo)"
        umount -l "$DIR"
    fi
    within 60 _no_daemon || { fail "$name: no daemon is left"; kill_daemon KILL; }
}
# try NAME REGEX [options]: the configuration as written, mounted as "r".
try() { refused "$1" "$2" mount.objmig r "$DIR" -o "config=$CONF,cache=$CACHE,log=$LOG${3:+,$3}"; }
fresh() { rm -f "$CONF"; }

# ---- the provider refuses

for kind in s3 cos; do
    if [ $kind = s3 ]; then conf() { fresh; conf_s3 r "$BUCKET" "$@"; }; else conf() { fresh; conf_cos r "$@"; }; fi
    conf accessKeySecret=wrongSecret
    try "$kind: wrong secret" "\[r\].*accessKeySecret|remote r\b.*accessKeySecret"
    conf accessKeyId=NOBODY
    try "$kind: wrong access key" "\[r\].*accessKeyId|remote r\b.*accessKeyId"
    conf bucket=missing-1250000000
    try "$kind: missing bucket" "\[r\] bucket.*missing-1250000000|(\[r\]|remote r\b).*bucket"
    conf connectTo=127.0.0.1:1 requestTryCount=2
    try "$kind: no server" "(\[r\]|remote r\b).*(connect|server)"
done
fresh; conf_cos r region=ap-elsewhere
try "cos: wrong region" "(\[r\]|remote r\b).*region|region.*\[r\]"
# The gateway takes any region; one that does not answers so.
start_proxy "127.0.0.1:$RGW_PORT"
fresh; conf_s3 r "$BUCKET" "connectTo=127.0.0.1:$PROXY_PORT" region=eu-west-9
proxy_fault '{"action":"status","count":0,"status":400,"body":"<?xml version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</Code><Message>The authorization header is malformed; the region eu-west-9 is wrong; expecting us-east-1</Message><Region>us-east-1</Region></Error>"}'
try "s3: wrong region" "region.*us-east-1.*\[r\]|\[r\].*region.*us-east-1"
proxy_ctl DELETE faults >/dev/null
fresh; conf_s3 r "$BUCKET" endPoint=http://no-such-host.invalid
try "s3: a name which is nobody's" "(\[r\]|remote r\b).*no-such-host\.invalid|no-such-host\.invalid.*\[r\]"

# ---- the configuration

fresh; conf_s3 r "$BUCKET"; chmod 644 "$CONF"
try "secrets in a file others can read" "objmig\.conf.*(chmod|0600|readable|600)"
fresh; conf_s3 r "$BUCKET" bukket=x
try "unknown key" "objmig\.conf.*\[r\].*bukket"
fresh; write_conf r provider=s3 "bucket=$BUCKET" region=us-east-1 accessKeyId=x
try "missing key" "objmig\.conf.*\[r\].*accessKeySecret"
fresh; write_conf r provider=s3 region=us-east-1 accessKeyId=x accessKeySecret=y
try "missing bucket key" "objmig\.conf.*\[r\].*bucket"
fresh; write_conf r "bucket=$BUCKET"
try "missing provider" "objmig\.conf.*\[r\].*provider"
fresh; write_conf r provider=floppy
try "unknown provider" "objmig\.conf.*\[r\].*provider.*floppy|floppy"
fresh; conf_s3 r "$BUCKET" smallFileExecutorNum=many
try "bad value" "objmig\.conf.*\[r\].*smallFileExecutorNum"
fresh; conf_s3 r "$BUCKET" https=perhaps
try "bad switch" "objmig\.conf.*\[r\].*https"
fresh; conf_s3 r "$BUCKET" bigFileUploadPartSize=1
try "value out of range" "objmig\.conf.*\[r\].*bigFileUploadPartSize"
fresh; write_conf r provider=s3 "bucket=$BUCKET" region=us-east-1 accessKeyId=x accessKeySecret=y "endPoint=$RGW_ENDPOINT"
try "http without https = off" "objmig\.conf.*\[r\].*https"
fresh; conf_s3 r "$BUCKET"; echo 'no equals sign' >>"$CONF"
try "not INI" "objmig\.conf"
fresh; conf_s3 other "$BUCKET"
try "no such section" "\br\b"
fresh
try "no configuration" "objmig\.conf"
fresh; write_conf r provider=local "path=$T/not-there"
try "local: no such directory" "not-there"

# ---- this machine

fresh; conf_s3 r "$BUCKET"
mkdir "$T/ro"
mount -t tmpfs -o ro,size=1m none "$T/ro"
refused "cache not writable" "$T/ro" mount.objmig r "$DIR" -o "config=$CONF,cache=$T/ro/cache,log=$LOG"
: >"$T/a-file"
refused "cache is a file" "$T/a-file" mount.objmig r "$DIR" -o "config=$CONF,cache=$T/a-file,log=$LOG"
refused "no such mount point" "$T/nowhere" mount.objmig r "$T/nowhere" -o "config=$CONF,cache=$CACHE,log=$LOG"
refused "the mount point is a file" "$T/a-file" mount.objmig r "$T/a-file" -o "config=$CONF,cache=$CACHE,log=$LOG"
try "unknown option" "colour" colour=blue
try "bad option value" "close.*remote" close=sometimes
try "bad size" "cache_size" cache_size=big
refused "one argument" "SPEC DIR|directory" mount.objmig r

# ---- a second daemon

# Somebody holds the cache directory who is no daemon that answers.
python3 -c '
import fcntl, sys, time
f = open(sys.argv[1], "a")
fcntl.flock(f, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(1000)' "$CACHE/lock" >"$T/held" &
holder=$!
within 60 grep -q held "$T/held"
try "the cache directory is another daemon's" "$CACHE"
kill $holder
wait $holder 2>/dev/null

ok "after all this it mounts" mount_objmig r "$DIR"
is "one daemon" "$(daemon_pids | wc -l)" 1
mkdir "$T/mnt2"
said=$(mount.objmig r "$T/mnt2" -o "config=$CONF,cache=$CACHE,log=$LOG,writeback_delay=9" 2>&1)
is "an option that conflicts with the running daemon: status" $? 1
is "one line" "$(wc -l <<<"$said")" 1
matches "which names it" "$said" 'writeback_delay.*9|writeback_delay'
nok "and nothing is mounted" mountpoint -q "$T/mnt2"
cp "$CONF" "$T/other.conf"
sed -i "s/^bucket = .*/bucket = missing-1250000000/" "$T/other.conf"
said=$(mount.objmig r "$T/mnt2" -o "config=$T/other.conf,cache=$CACHE,log=$LOG" 2>&1)
is "a section that now names another bucket: status" $? 1
is "one line of it" "$(wc -l <<<"$said")" 1
nok "nothing is mounted then" mountpoint -q "$T/mnt2"
refused_here() {
    said=$(mount.objmig "$@" 2>&1)
    is "a failing second mount: status" $? 1
    is "a failing second mount: one line ($said)" "$(wc -l <<<"$said")" 1
}
conf_cos bad accessKeySecret=wrongSecret
refused_here bad "$T/mnt2" -o "config=$CONF,cache=$CACHE,log=$LOG"
nok "nothing is mounted by it" mountpoint -q "$T/mnt2"
ok "the first mount still works" ls "$DIR"
is "still one daemon" "$(daemon_pids | wc -l)" 1
ok "mounting it again where it is: exit 0" mount.objmig r "$DIR" -o "config=$CONF,cache=$CACHE,log=$LOG"
is "and it is mounted once" "$(grep -c " $DIR " /proc/self/mountinfo)" 1
done_testing
