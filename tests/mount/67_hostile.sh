#!/bin/bash
# Who means ill: another user of the machine, what lies in a local directory, and a server. Contained means: the daemon's memory
# stays bounded, what cannot be had is an error, nothing is asked of another host, no log shows a secret, nothing outside the
# remote is read or written, and the other mounts of the same daemon go on.
# timeout: 600
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
[ "$(id -u)" = 0 ] || skip_all "needs root, for the second user and the devices"
start_cos
python3 "$SERVERS_DIR/hostile.py" "$T/hostile.env" >"$T/hostile.out" 2>&1 &
within 60 test -f "$T/hostile.env" || die "the hostile server does not start"
. "$T/hostile.env"
SECRET=theSecretNobodyMayEverSee
conf_cos good
_conf_merged bad provider=s3 bucket=b region=us-east-1 accessKeyId=AKIDBAD accessKeySecret=$SECRET https=off pathStyle=on \
    endPoint=http://127.0.0.1:$HOSTILE_PORT requestTryCount=2 requestTimeoutMs=10000
conf_local tree "$T/tree"
GOOD=$T/m/good BAD=$T/m/bad TREE=$T/m/tree
OPTIONS=writeback_delay=0.2,list_ttl=1,wait_timeout=10,loglevel=debug

NOBODY=(setpriv --reuid=65534 --regid=65534 --clear-groups)
hostile() { curl -sS --noproxy '*' "http://127.0.0.1:$HOSTILE_PORT/_ctl/$1"; }
peak_kib() { awk '/^VmHWM/ { print $2 }' /proc/"$(daemon_pids)"/status; }

# within_s NAME SECONDS COMMAND …: it may succeed or fail, but it comes to its end. Sets RC; the output goes to $T/said.out.
within_s() {
    local name=$1 seconds=$2
    shift 2
    timeout "$seconds" "$@" >"$T/said.out" 2>&1
    RC=$?
    [ $RC -lt 124 ] || { fail "$name: comes to an end" "status $RC after $seconds s"; return 1; }
}
# refused NAME COMMAND …: fails, soon, with one of the words for it.
refused() {
    local name=$1
    shift
    within_s "$name" 180 "$@" || return
    if [ $RC = 0 ]; then
        fail "$name is an error" "$(head -c 300 "$T/said.out")"
    else
        matches "$name: $(tail -n 1 "$T/said.out" | sed 's/.*: //')" "$(cat "$T/said.out")" 'Input/output error|Permission denied|Operation not permitted|Stale file handle'
    fi
}

# In the middle of everything else: the other mounts answer.
COUNTER=0
others_go_on() {
    COUNTER=$((COUNTER + 1))
    ok "$1: meanwhile the other mount writes" timeout 60 bash -c "echo $COUNTER >'$GOOD/n$COUNTER'"
    ok "$1: and uploads" within 60 cos_has "n$COUNTER"
    is "$1: and reads" "$(timeout 60 cat "$GOOD/given")" given
    is "$1: the object" "$(cos_cat "n$COUNTER")" "$COUNTER"
}

echo given >"$T/given"
cos_put given "$T/given"

# ---- a second user

chmod 755 "$T"
mkdir -p "$T/m"
ok "mount without allow_other" mount_objmig good "$GOOD" "$OPTIONS"
echo private >"$GOOD/private"
chmod 600 "$GOOD/private"
refused "another user: the mount itself" "${NOBODY[@]}" ls "$GOOD"
refused "another user: a name below it" "${NOBODY[@]}" cat "$GOOD/given"
umount_objmig "$GOOD"
daemon_gone
ok "mount with allow_other" mount_objmig good "$GOOD" "$OPTIONS,allow_other"
chmod 644 "$GOOD/given"
is "another user, allow_other: reads what is for all" "$("${NOBODY[@]}" cat "$GOOD/given")" given
refused "another user, allow_other: not what is private" "${NOBODY[@]}" cat "$GOOD/private"
refused "another user, allow_other: does not write" "${NOBODY[@]}" touch "$GOOD/new"
refused "another user, allow_other: nor commands" "${NOBODY[@]}" bash -c "echo discard >'$GOOD/.objmig/control'"
nok "another user, allow_other: nor by objmig" timeout 20 "${NOBODY[@]}" "$(command -v objmig)" discard "$GOOD"
nok "another user, allow_other: does not unmount" "${NOBODY[@]}" umount "$GOOD"
is "another user: nothing of the cache, the journal, the log or the socket is open to him" \
    "$("${NOBODY[@]}" find "$CACHE" -mindepth 1 2>/dev/null; find "$LOG" "$CONF" -perm /077)" ''
# A root-owned program of the bucket's making gives nobody root, and its devices are none.
printf '#!/bin/sh\nid -u\n' >"$GOOD/suid"
cp /usr/bin/id "$GOOD/id" && chmod 4755 "$GOOD/id"
is "another user: set-user-id has no effect" "$("${NOBODY[@]}" "$GOOD/id" -u)" 65534
mknod "$GOOD/zero" c 1 5 && chmod 666 "$GOOD/zero"
refused "another user: a device of the bucket" "${NOBODY[@]}" head -c 1 "$GOOD/zero"
refused "root: a device of the bucket" head -c 1 "$GOOD/zero"

# ---- a local tree

mkdir -p "$T/outside/dir" "$T/tree/swapped" "$T/tree/plain"
echo "outside's secret" >"$T/outside/secret"
echo "outside's secret" >"$T/outside/dir/file"
echo inside >"$T/tree/swapped/file"
echo inside >"$T/tree/swapped-file"
echo inside >"$T/tree/plain/file"
ln -s "$T/outside/secret" "$T/tree/link"
ln -s "$T/outside" "$T/tree/linked-dir"
ln -s ../../../../../../../../etc "$T/tree/up"
ln -s loop "$T/tree/loop"
mkfifo "$T/tree/fifo"
mknod "$T/tree/device" c 1 5
python3 - "$T/tree" <<'PY'
import os, socket, sys
os.chdir(sys.argv[1])
socket.socket(socket.AF_UNIX).bind('socket')
for name in (b'new\nline', b'cr\rlf\n', b'\x1b[2Jescape', b'\xff\xfe not UTF-8', b'^41', b' ', b'-rf', b'"; rm -rf', b'$(touch x)', b'tab\t'):
    with open(name, 'wb') as f:
        f.write(b'odd ' + name)
PY
ok "mount a hostile tree" mount_objmig tree "$TREE" "$OPTIONS,allow_other"
within_s "find in it" 180 find "$TREE" -ls
is "find in it" $RC 0
is "a symlink out is shown as it is" "$(readlink "$TREE/link")" "$T/outside/secret"
refused "its device" head -c 1 "$TREE/device"
# Every odd name, there and back through a bucket.
(cd "$TREE" && find . -mindepth 1 -maxdepth 1 ! -name socket -print0 | timeout 60 xargs -0 cp -a -t "$GOOD" --) 2>"$T/copy.err"
is "copy all of it to a bucket: what is not UTF-8 or has an escape character is refused, and named" \
    "$(sed -n "s|^cp: cannot create regular file '.*/m/good/\([^']*\)'.*|\1|p" "$T/copy.err" | sort | tr '\n' '|')" \
    '^1B[2Jescape|^FF^FE not UTF-8|'
is "nothing else is" "$(wc -l <"$T/copy.err")" 2
ok "wait: all that was taken goes" timeout 300 objmig wait -q "$GOOD"
is "a symlink out carries its target, not what is there" "$(cos_cat link)" "$T/outside/secret"
is "nothing from outside is in the bucket" "$(cos_keys | grep -cE 'outside|passwd|hosts' )" 0
for name in $'new\nline' $'cr\rlf\n' '^41' ' ' -rf '"; rm -rf' '$(touch x)' $'tab\t'; do
    is "$(printf 'the key %q' "$name")" "$(cos_cat "$name"; echo .)" "odd $name."
done
# Names which a terminal or a script would take for something else are shown escaped, and answer to that name.
is "a line break in a name is shown escaped" "$(cd "$GOOD" && echo new*line)" 'new^0Aline'
is "and can be read so" "$(cat "$GOOD/new^0Aline")" $'odd new\nline'
# What was a directory becomes a link to another place, behind the mount's back and while a program has it open. (Who walks
# there later follows the link himself, as on any disk.)
python3 - "$TREE" "$T" >"$T/swap.out" 2>&1 <<'PY'
import os, shutil, sys
mount, t = sys.argv[1:3]
root = os.open(mount, os.O_RDONLY)
swapped = os.open(mount + '/swapped', os.O_RDONLY)
os.listdir(swapped)
shutil.rmtree(t + '/tree/swapped')
os.unlink(t + '/tree/swapped-file')
os.symlink(t + '/outside/dir', t + '/tree/swapped')
os.symlink(t + '/outside/secret', t + '/tree/swapped-file')
NAMES = ((swapped, 'file'), (swapped, 'new'), (root, 'swapped-file'))
for flags in (os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    for at, name in NAMES:
        try:
            fd = os.open(name, flags | os.O_NOFOLLOW, 0o644, dir_fd=at)
            print(os.read(fd, 100) if flags == os.O_RDONLY else os.write(fd, b'written through'))
            os.close(fd)
        except OSError as e:
            print(e)
PY
timeout 30 objmig wait -q "$TREE" >/dev/null 2>&1
is "a directory swapped for a link: nothing outside is changed" "$(cat "$T/outside/secret" "$T/outside/dir/file"; ls -A "$T/outside/dir")" $'outside\'s secret\noutside\'s secret\nfile'
is "nor does it show through" "$(grep -c "outside's secret" "$T/swap.out")" 0
others_go_on "a hostile tree"
objmig discard "$TREE" >/dev/null 2>&1

# ---- a server

BEFORE=$(peak_kib)
ok "mount a hostile server" mount_objmig bad "$BAD" "$OPTIONS"
ok "its root is listed" timeout 60 ls "$BAD"
BODY_MD5=$(python3 -c 'import hashlib; print(hashlib.md5(bytes(range(256)) * 4096).hexdigest())')
is "an object of it that is as it should be" "$(timeout 60 md5sum <"$BAD/good" | cut -d' ' -f1)" "$BODY_MD5"
# A listing that goes on for ever, byte by byte, holds nobody: who waits may be told to stop, and it ends by itself.
ls "$BAD/drip" >"$T/drip.out" 2>&1 &
DRIP=$!
sleep 1
kill -TERM $DRIP
ok "listing drip: who waits for it can be stopped" within 60 bash -c "! grep -q '^State:.[^Z]' /proc/$DRIP/status"
others_go_on "listing drip"
for name in drip rows text deep blanks entities file loop packed elsewhere headers foreign huge-sizes empty-sizes; do
    refused "listing $name" ls "$BAD/$name"
done
for name in rows text deep blanks headers; do
    at_most "listing $name: bytes taken of 10 GB" "$(hostile sent/$name)" $((400 << 20))
done
within_s "listing odd" 180 ls -a "$BAD/odd"
is "odd keys are shown escaped, and what is no key of ours is not" "$(tr '\n' '|' <"$T/said.out")" '.|..|^2Eobjmig|^2F|esc^1B[31m|new^0Aline|ok|'
others_go_on "hostile listings"
for name in longer endless shorter whole other-range other-version minus-length packed-object elsewhere-object headers-object html; do
    refused "reading $name" cat "$BAD/$name"
done
# Both lengths cannot be true: an error, or the bytes which are.
within_s "reading two-lengths" 180 md5sum "$BAD/two-lengths"
[ $RC != 0 ] || is "reading two-lengths: no other bytes" "$(cut -d' ' -f1 "$T/said.out")" "$BODY_MD5"
for name in endless whole headers; do
    at_most "reading $name: bytes taken of 10 GB" "$(hostile sent/$name)" $((400 << 20))
done
is "an object that is packed stays packed" "$(timeout 60 cat "$BAD/bomb" | gzip -t && echo whole)" whole
at_most "reading: and is no larger" "$(timeout 60 cat "$BAD/bomb" | wc -c)" $((1 << 20))
# To another provider, through the daemon: none of it may arrive as if it were right.
for name in longer shorter other-range other-version packed-object; do
    within_s "copying $name" 180 cp "$BAD/$name" "$GOOD/copied-$name"
done
# Some of it is tried again for longer than anybody wants to look.
timeout 15 objmig wait -q "$GOOD" >/dev/null 2>&1
for name in longer shorter other-range other-version packed-object; do
    nok "copying $name: nothing wrong arrived" cos_has "copied-$name"
done
rm -f "$GOOD"/copied-*
others_go_on "hostile objects"
for name in put-elsewhere put-endless put-echo put-lie; do
    echo "what is written" >"$BAD/$name"
done
# Refusals are told at once, what looks like a bad line is tried again: in no case is it taken for done.
nok "writing: it is not taken for done" timeout 10 objmig wait -q "$BAD"
refusal_told() { [[ $(objmig errors "$BAD") =~ put-echo.*AccessDenied ]]; }
ok "writing: a refusal has its line" within 60 refusal_told
at_most "writing: bytes taken of 10 GB" "$(hostile sent/put-endless)" $((400 << 20))
is "no request to another host" "$(hostile elsewhere)" ''
others_go_on "hostile answers"
if [ -n "${OBJMIG_SANITIZED:-}" ]; then
    skip "the daemon's memory" "the sanitizer's own memory counts"
else
    at_most "the daemon's memory grew by no more than 200 MiB (KiB)" $(($(peak_kib) - BEFORE)) $((200 << 10))
fi
is "it is the same daemon all the time" "$(daemon_pids | wc -l)" 1
is "no secret in any log" "$(objmig errors "$BAD" 2>&1 | cat - "$LOG"* "$T"/*.out | grep -acF -e $SECRET -e "$COS_SECRET_KEY")" 0
is "no line of the log is of somebody else's making" "$(grep -acE '^2026-01-01T00:00:00Z error forged' "$LOG")" 0
is "nor is there a control character" "$(LC_ALL=C grep -acP '[\x00-\x08\x0b-\x1f\x7f]' "$LOG")" 0
done_testing
