#!/bin/bash
# objmig wait and errors: what each exit status means, for whom (rules E6, B9). And who may attach to a daemon that runs (E1).
# timeout: 240
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
start_cos --bucket one-1250000000 --bucket two-1250000000
conf_cos one bucket=one-1250000000 requestTimeoutMs=2000 requestTryCount=1
conf_cos two bucket=two-1250000000 requestTimeoutMs=2000 requestTryCount=1
conf_local nas "$T/bucket"
A=$T/a B=$T/b N=$T/n
OPTIONS=writeback_delay=0.2,list_ttl=1
ok "mount one" mount_objmig one "$A" "$OPTIONS,allow_other"
ok "mount two" mount_objmig two "$B" "$OPTIONS"
ok "mount the local one" mount_objmig nas "$N" "$OPTIONS"

# wait_is NAME STATUS ARGUMENT …: sets SAID.
wait_is() {
    local name=$1 want=$2
    shift 2
    SAID=$(timeout 100 objmig wait "$@" 2>&1)
    is "$name" $? "$want"
}
errors_is() {
    local name=$1 want=$2
    shift 2
    SAID=$(timeout 30 objmig errors "$@" 2>&1)
    is "$name" $? "$want"
}
faults_off() { cos_ctl DELETE faults >/dev/null; }
failed() { [ "$(objmig errors "$1" | grep -c '^failed')" = "$2" ]; }

# ---- PATH: what lies below it, as target or as source of a copy

mkdir "$A/held" "$A/free"
echo from >"$A/free/from"
wait_is "all is done" 0 "$A"
cos_fault '{"key":"held/file","op":"PutObject","action":"hold","count":0}'
cos_fault '{"key":"copied","action":"hold","method":"PUT","count":0}'
echo bytes >"$A/held/file"
echo bytes >"$A/free/file"
wait_is "what is elsewhere is not waited for" 0 "$A/free"
is "what is there is at the provider" "$(COS_BUCKET=one-1250000000 cos_cat free/file)" bytes
wait_is "what is below the path is" 3 "$A/held" --timeout=3
matches "and it says so" "$SAID" 'timed out, 1 files left'
wait_is "another remote is elsewhere" 0 "$B"
cp "$A/free/from" "$B/copied"
wait_is "the source of a copy that is under way is a part of it" 3 "$A/free" --timeout=3
wait_is "whose target is" 3 "$B" --timeout=3

# ---- superseded: what takes its place counts

echo other >"$A/held/file"
wait_is "what was superseded ends with what took its place" 3 "$A/held" --timeout=3
faults_off
wait_is "then with that" 0 "$A"
is "which is there" "$(COS_BUCKET=one-1250000000 cos_cat held/file)" other
wait_is "the copy, too" 0 "$A/free"
is "which is there, too" "$(COS_BUCKET=two-1250000000 cos_cat copied)" from

# ---- open files are named

python3 -c 'import os, signal, sys
for name in ("free/open now", "held/log"):
    os.write(os.open(os.path.join(sys.argv[1], name), os.O_WRONLY | os.O_CREAT), b"line")
open(sys.argv[2], "w").close()
signal.pause()' "$A" "$T/opened" &
writer=$!
ok "somebody writes" within 30 test -e "$T/opened"
wait_is "open files are not waited for" 0 "$A"
matches "their number is told" "$SAID" '2 files are still open'
matches "and their names" "$SAID" 'one: free/open now'
matches "of all of them" "$SAID" 'one: held/log'
wait_is "by PATH" 0 "$A/free"
is "no others are" "$(grep -c 'held/log' <<<"$SAID")" 0
kill $writer
wait $writer 2>/dev/null

# ---- failed

cos_fault '{"key":"held/denied","action":"status","status":403,"code":"AccessDenied","count":0}'
echo bytes >"$A/held/denied"
wait_is "a file failed" 2 "$A"
errors_is "errors has it" 2 "$A"
wait_is "not in here" 0 "$A/free"
errors_is "nor has errors" 0 "$A/free"

# ---- paused

cos_fault '{"op":"PutObject","action":"status","status":403,"code":"AccessDenied","count":0}'
for n in 1 2 3; do echo "$n" >"$A/free/denied$n"; done
wait_is "paused, with work left" 3 "$A"
matches "and it says for whom it waits" "$SAID" '4 files left, of which some wait for a remote'
errors_is "errors: nothing failed" 3 "$A"
is "errors: but the remote is paused" "$(cut -f 1,2 <<<"$SAID")" $'paused\tone'
errors_is "errors: the same for programs" 3 --json "$A"
errors_is "errors: other remotes are not" 0 "$B"
faults_off
ok "retry" objmig retry "$A"
wait_is "it goes on" 0 "$A"
errors_is "errors has nothing" 0 "$A"
is "all of it is there" "$(for n in held/denied free/denied1 free/denied2 free/denied3; do COS_BUCKET=one-1250000000 cos_cat $n; done | xargs)" "bytes 1 2 3"

# ---- the times of directories, in a local one

mkdir -p "$T/tree/sub"
for n in $(seq 20); do make_file "$T/tree/sub/$n" 20000 "$n"; done
touch -d @1234567890 "$T/tree/sub"
touch -d @987654321 "$T/tree"
chmod 750 "$T/tree/sub"
cp -a "$T/tree" "$N/"
mkdir "$N/tarred"
tar -C "$T" -cf - tree | tar -C "$N/tarred" -xf -
wait_is "copied and unpacked" 0 "$N"
times() { (cd "$1" && stat -c '%Y %a' tree tree/sub | xargs); }
for d in "$N" "$N/tarred" "$T/bucket" "$T/bucket/tarred"; do
    is "the times of ${d#$T/}" "$(times "$d")" "$(times "$T")"
done

# ---- who attaches: another identity under a known name, another user

mkdir "$T/other-bucket" "$T/d"
sed "s|^path = .*|path = $T/other-bucket|" "$CONF" >"$T/other.conf"
chmod 600 "$T/other.conf"
SAID=$(mount.objmig nas "$T/d" -o "config=$T/other.conf,cache=$CACHE,log=$LOG" 2>&1)
is "a section that names another directory now: status" $? 1
matches "and both are named" "$SAID" "remote nas: its path is .*$T/other-bucket.* now, but .*$T/bucket.* where it is mounted"
nok "nothing is mounted" mountpoint -q "$T/d"
mkdir -m 755 "$T/bin"
cp "$OBJMIG_BUILD/fs/mount.objmig" "$OBJMIG_BUILD/tools/objmig" "$T/bin/"
chmod 755 "$T"
NOBODY=(setpriv --reuid=65534 --regid=65534 --clear-groups)
ok "another user can run it" "${NOBODY[@]}" "$T/bin/objmig" --version
mkdir "$T/theirs"
(umask 077; printf '[nas]\nprovider = local\npath = %s\n' "$T/theirs" >"$T/theirs.conf")
chown nobody "$T/theirs.conf" "$T/theirs" "$T/d"
SAID=$("${NOBODY[@]}" "$T/bin/mount.objmig" nas "$T/d" -o "config=$T/theirs.conf,cache=$CACHE,log=$T/theirs/log" 2>&1)
is "another user's section: status" $? 1
matches "the daemon is not his" "$SAID" "cache=$CACHE.*(Permission denied|must belong to this user)"
SAID=$("${NOBODY[@]}" "$T/bin/objmig" retry --cache "$CACHE" 2>&1)
is "nor does it do what he says: status" $? 1
nok "nothing is mounted by him" mountpoint -q "$T/d"

# ---- no daemon

cos_fault '{"op":"PutObject","action":"hold","count":0}'
echo left >"$A/free/left"
sync "$T/cache"
kill_daemon
wait_is "no daemon, and work is left" 3 --cache "$CACHE"
matches "it says so" "$SAID" 'no daemon runs, [0-9]+ files left'
errors_is "errors: nothing failed" 0 --cache "$CACHE"
faults_off
ok "mounted again" mount_objmig one "$A" "$OPTIONS,allow_other"
wait_is "it goes on" 0 "$A" --timeout=60
is "and arrives" "$(COS_BUCKET=one-1250000000 cos_cat free/left)" left
for d in "$A" "$B" "$N"; do umount_objmig "$d"; done
ok "the daemon ends" daemon_gone
wait_is "no daemon, and nothing is left" 0 --cache "$CACHE"
done_testing
