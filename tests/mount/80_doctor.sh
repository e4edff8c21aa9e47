#!/bin/bash
# objmig doctor: each thing it looks for is provoked, found, named with what to do, and gone again after that was done.
# timeout: 500
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
start_cos
conf_cos cos
conf_local nas "$T/nas"
MNT=$T/mnt
mkdir "$CACHE" "$MNT"
chmod 700 "$CACHE"
GOOD=$CONF

# doctor ARGUMENT …: its output in $OUT, its status in $RC. Whatever it says, no secret is in it, and each finding is one line.
doctor() {
    OUT=$(timeout 100 objmig doctor --config "$CONF" --cache "$CACHE" "$@" 2>&1)
    RC=$?
    if grep -qF -e "$COS_SECRET_KEY" -e wrongSecret <<<"$OUT"; then
        fail "doctor $*: no secret is shown" "$OUT"
    fi
    if grep -vE '^(ok|warn|FAIL) +[^ ].*: |^objmig doctor: |^key ' <<<"$OUT" | grep -q .; then
        fail "doctor $*: each line is a finding" "$OUT"
    fi
}
# says NAME STATUS LEVEL REGEX: the last doctor came to this, with this among its findings.
says() {
    if [ "$RC" != "$2" ]; then
        fail "$1" "status $RC, $2 is wanted" "$OUT"
    elif ! grep -qE "^$3 +$4" <<<"$OUT"; then
        fail "$1" "no '$3' line matches $4" "$OUT"
    else
        pass "$1"
    fi
}
says_not() {
    if grep -qE "^$2 +$3" <<<"$OUT"; then fail "$1" "$(grep -E "^$2 +$3" <<<"$OUT")"; else pass "$1"; fi
}
# What it may have changed: names, modes and contents, but for the index of the log, which every reader of it makes.
state_of() { (cd "$1" && find . ! -name '*-shm' ! -name '*-wal' -printf '%p %m %s %T@\n' | sort; cat journal.db tmp/* | md5sum); }
sql() { sqlite3 "$1/journal.db" "$2"; }
row_of() { [ "$(sqlite3 -readonly "$1/journal.db" "SELECT count(*) FROM intent WHERE key=CAST('$2' AS BLOB) AND ${3:-1}")" = 1 ]; }

# ---- nothing is wrong

rmdir "$CACHE"
doctor
says "before the first mount: the cache directory is not there yet" 0 warn "cache directory: .*not there"
says "FUSE opens" 0 ok "fuse: /dev/fuse opens"
says "the configuration reads" 0 ok "configuration: .* 2 remotes"
says "the bucket answers" 0 ok "remote \[cos\]: .*listing works"
says "the clocks agree" 0 ok "clock of \[cos\]: "
says "the local remote is writable" 0 ok "remote \[nas\]: .*writable"
[ ! -e "$CACHE" ] && pass "it makes no cache directory" || fail "it makes no cache directory"
ok "mount" mount_objmig cos "$MNT"
echo content >"$MNT/file"
objmig wait -q "$MNT"
doctor
says "beside a daemon: nothing failed" 0 ok "work: nothing failed"
says "the daemon answers" 0 ok "daemon: pid [0-9]+ answers"
says "the lock is held by it" 0 ok "lock: held by the daemon with pid $(cat "$CACHE/lock")"
says "the journal is whole" 0 ok "journal: opens, is whole"
says "the mount answers" 0 ok "mount: [1-9][0-9]* mounts? answer"
OUT=$(objmig doctor --config "$CONF" "$MNT" 2>&1) RC=$?
says "a mount point leads to its cache directory" 0 ok "lock: held by the daemon with pid $(cat "$CACHE/lock")"
says "and to its remote" 0 ok "remote \[cos\]"
says_not "and to no other" ok "remote \[nas\]"
OUT=$(objmig doctor --config "$CONF" --cache "$CACHE" --json nas 2>&1)
is "JSON" "$(python3 -c 'import json, sys
d = json.load(sys.stdin)
print(d["fail"], len(d["findings"]) == d["ok"] + d["warn"] + d["fail"], sorted(d["findings"][0]))' <<<"$OUT")" \
    "0 True ['do', 'found', 'level', 'what']"
OUT=$(objmig doctor --config "$CONF" --cache "$CACHE" nothere 2>&1)
is "a section that is not there is a wrong use" $? 1

# ---- the daemon hangs

kill -STOP $(daemon_pids)
doctor nas
kill -CONT $(daemon_pids)
says "a stopped daemon does not answer" 2 FAIL "daemon: pid [0-9]+ holds .*does not answer.*to do: .*kill -9"
says "nor does its mount" 2 FAIL "mount: $MNT does not answer.*to do: .*/sys/fs/fuse/connections/[0-9]+/abort"
doctor nas
says "it goes on, and all is well" 0 ok "daemon: pid"

# ---- remotes

bad_remote() {
    local name=$1 status=$2 level=$3 regex=$4
    shift 4
    CONF=$T/bad.conf
    rm -f "$CONF"
    conf_cos r "$@"
    doctor r
    says "$name" "$status" "$level" "$regex"
    CONF=$GOOD
}
bad_remote "a wrong secret" 2 FAIL 'remote \[r\]: credentials: 403 SignatureDoesNotMatch.*to do: check accessKeySecret' accessKeySecret=wrongSecret
bad_remote "a wrong id" 2 FAIL 'remote \[r\]: credentials: 403 .*to do: check accessKeyId' accessKeyId=AKIDwrong
bad_remote "no such bucket" 2 FAIL 'remote \[r\]: bucket: 404 NoSuchBucket.*to do: check bucket' bucket=nowhere-1250000000
bad_remote "a wrong region" 2 FAIL 'remote \[r\]: bucket: 404 NoSuchBucket.*region' region=ap-other
bad_remote "no server" 2 FAIL 'remote \[r\]: network: .*to do: check endPoint' connectTo=127.0.0.1:1
cos_fault '{"action":"blackhole","count":100}'
began=$SECONDS
bad_remote "a server that never answers" 2 FAIL 'remote \[r\]: network: '
at_most "it is waited for 20 s" $((SECONDS - began)) 30
cos_ctl DELETE faults >/dev/null
for off in 1200 -1200; do
    cos_ctl POST clock "{\"offset_s\":$off,\"code\":\"RequestTimeTooSkewed\"}" >/dev/null
    doctor cos
    says "a clock 20 minutes $([ $off -gt 0 ] && echo slow || echo fast)" 0 warn \
        "clock of \[cos\]: this machine is 0 d 00:(20:0|19:5)[0-9] $([ $off -gt 0 ] && echo behind || echo ahead).*to do: set this machine's clock"
done
cos_ctl POST clock '{"offset_s":0}' >/dev/null
doctor cos
says "set right" 0 ok "clock of \[cos\]"
CONF=$T/dir.conf
conf_local gone "$T/gone"
conf_local circle "$MNT"
rmdir "$T/gone"
doctor gone
says "a local directory that is gone" 2 FAIL "remote \[gone\]: path $T/gone: No such file.*to do: check path"
doctor circle
says "a local directory in a mount" 2 FAIL "remote \[circle\]: path $MNT is inside an objmig mount"

# ---- configuration

CONF=$T/bad.conf
cp "$GOOD" "$CONF"
chmod 644 "$CONF"
doctor
says "secrets that others may read" 2 FAIL "configuration: $CONF: .*to be 0600|configuration: $CONF: .*chmod 600"
chmod 600 "$CONF"
echo 'regoin = x' >>"$CONF"
doctor
says "an unknown key" 2 FAIL "configuration: $CONF:[0-9]+: \[nas\] .*regoin"
CONF=$T/absent.conf
doctor
says "no configuration" 2 FAIL "configuration: $T/absent.conf: cannot be read"
CONF=$GOOD

# ---- failed work: the daemon is asked

cos_fault '{"op":"PutObject","action":"status","status":403,"code":"AccessDenied","count":1000}'
echo refused >"$MNT/refused"
within 60 bash -c 'objmig errors "$1" | grep -q refused' - "$MNT" || fail "the upload is refused"
doctor nas
says "a file that failed" 2 FAIL "work: 1 files failed for good .*to do: objmig errors --cache $CACHE"
cos_ctl DELETE faults >/dev/null
objmig retry "$MNT" >/dev/null
ok "what to do is done" objmig wait -q "$MNT"
doctor
says "all is well again" 0 ok "work: nothing failed"

# ---- kill -9: a dead mount, work left, a file cut off

cos_fault '{"op":"PutObject","action":"status","status":503,"count":100000}'
# The shell's own descriptors would be flushed, which seals.
python3 -c 'import sys, time
f = open(sys.argv[1], "wb", 0)
f.write(b"half")
time.sleep(1000)' "$MNT/open" 2>/dev/null &
writer=$!
disown $writer
for f in a b c; do
    make_file "$T/data" 5000 "$(printf '%d' "'$f")"
    cp "$T/data" "$MNT/$f"
done
within 60 row_of "$CACHE" open || fail "an open file gets a row"
kill_daemon
kill -KILL $writer
doctor nas
says "a dead mount" 2 FAIL "mount: $MNT is a dead mount.*to do: mount it again"
says "work without a daemon" 2 warn "work: 3 files are not uploaded yet, and no daemon runs; to do: mount again"
says "a file cut off" 2 warn "work: 1 files were cut off while being written"
says "nobody holds the lock" 2 ok "lock: no daemon holds"
OUT=$(timeout 60 objmig doctor --config "$CONF" "$MNT" --cache "$CACHE" 2>&1) RC=$?
says "the same by its mount point" 2 FAIL "mount: $MNT is a dead mount"
umount -l "$MNT"
doctor nas
says "taken away" 0 ok "spool: [0-9]+ files with .* what the journal names is there"
nameless=$(sed -n 's/^warn *spool: \([0-9]*\) files .* no row .*/\1/p' <<<"$OUT")
before=$(state_of "$CACHE")
doctor
is "nothing is changed by all this" "$(state_of "$CACHE")" "$before"

# ---- damage: each in a copy of that cache directory

ORIGINAL=$CACHE
copy() {
    CACHE=$T/cache-$1
    cp -a "$ORIGINAL" "$CACHE"
}
spool_of() { printf '%s/tmp/%016x' "$CACHE" "$(sql "$CACHE" "SELECT spool_id FROM intent WHERE key=CAST('$1' AS BLOB)")"; }

copy row
sql "$CACHE" "UPDATE intent SET extents='L wrong' WHERE key=CAST('a' AS BLOB)"
doctor nas
says "a row that cannot be read" 2 FAIL "journal: the row of key \"a\" of cos.*cannot be read; to do: its bytes are kept in $(spool_of a): copy them away"
cp "$(spool_of a)" "$T/saved"
cos_ctl DELETE faults >/dev/null
ok "what to do: mount" mount_objmig cos "$MNT"
cp "$T/saved" "$MNT/a"
ok "and write it again" objmig wait -q "$MNT"
doctor
says "all is well again" 0 ok "journal: opens, is whole"
is "and the bytes are there" "$(cos_stat a md5)" "$(md5_of "$T/saved")"
objmig discard "$MNT" >/dev/null
umount_objmig "$MNT"
daemon_gone

copy feed
sql "$CACHE" "UPDATE intent SET extents='', key=X'610A4F4B20FF' WHERE key=CAST('a' AS BLOB)"
doctor nas
says "one whose key has a line feed and is not UTF-8" 2 FAIL 'journal: the row of key "a\\x0aOK \\xff" of cos'
OUT=$(objmig doctor --config "$CONF" --cache "$CACHE" --json nas)
ok "is JSON" python3 -c 'import json, sys; json.loads(sys.argv[1])' "$OUT"

copy spool
rm "$(spool_of a)"
truncate -s 100 "$(spool_of b)"
for i in 1 2 3; do cp "$(spool_of c)" "$CACHE/tmp/00000000deadbee$i"; done
doctor nas
says "a spool file that is missing" 2 FAIL "spool: $(spool_of a) is missing, which holds key \"a\" of cos"
says "one that is short" 2 FAIL "spool: $(spool_of b) has 100 bytes, but key \"b\" .* needs 5000"
says "three nobody names" 2 warn "spool: $((${nameless:-0} + 3)) files with .* which no row of the journal names; to do: nothing: the next mount removes"
says_not "a whole one is not spoken of" FAIL 'spool: .*"c"'

copy page
sql "$CACHE" 'PRAGMA wal_checkpoint(TRUNCATE)' >/dev/null
python3 - "$CACHE/journal.db" "$(sql "$CACHE" "SELECT rootpage FROM sqlite_schema WHERE name='ledger'")" <<'P'
import sys
with open(sys.argv[1], "r+b") as f:
    f.seek((int(sys.argv[2]) - 1) * 4096)
    f.write(b"\xaa" * 4096)
P
doctor nas
says "a damaged page" 2 FAIL "journal: damaged: .*to do: unmount, and copy the whole cache directory away"
copy garbage
rm -f "$CACHE"/journal.db*
head -c 8192 "$T/data" >"$CACHE/journal.db"
doctor nas
says "a journal that is none" 2 FAIL "journal: .*to do: copy the whole cache directory away"
copy newer
sql "$CACHE" 'PRAGMA user_version=99'
doctor nas
says "a journal of a newer version" 2 FAIL "journal: .*version 99.*newer program"
copy older
sql "$CACHE" 'PRAGMA user_version=1'
doctor nas
says "a journal of an older one" 0 warn "journal: .*older version 1: the next mount"
copy lost
rm -f "$CACHE"/journal.db*
doctor nas
says "a journal that was lost" 2 FAIL "journal: there is none, but $CACHE/tmp holds [0-9]+ files: it was lost; to do: copy tmp away"

# ---- the cache directory

copy mode
chmod 755 "$CACHE"
doctor nas
says "a cache directory others can look into" 2 FAIL "cache directory: .*0755.*to do: chmod 700 $CACHE"
chmod 700 "$CACHE"
doctor nas
says "not any more" 0 ok "cache directory: .*0700"
chown 65534 "$CACHE"
doctor nas
says "another user's" 0 warn "cache directory: .*belongs to "
CACHE=$T/tmpfs
mkdir "$CACHE"
mount -t tmpfs -o size=16m,mode=700 none "$CACHE"
doctor nas
says "one on a tmpfs" 0 warn "cache directory: $CACHE is on a tmpfs.*to do: give a directory on a disk"
head -c 15500000 /dev/zero >"$CACHE/fill"
doctor nas
says "one without room" 2 FAIL "room: $CACHE: .*writers wait"
rm "$CACHE/fill"
mount -o remount,nr_inodes=3 "$CACHE" 2>/dev/null || mount -o remount,nr_inodes=10 "$CACHE"
doctor nas
says "one with few inodes" 0 warn "room: $CACHE: [0-9]+ inodes free"
umount "$CACHE"
CACHE=$ORIGINAL
ok "mount" mount_objmig cos "$MNT"
objmig discard "$MNT" >/dev/null
ok "what was left is uploaded" objmig wait -q "$MNT"
mkdir "$MNT/cache"
CACHE=$MNT/cache
doctor nas
says "one inside a mount" 2 FAIL "cache directory: .*inside an objmig mount"
CACHE=$ORIGINAL
if id nobody >/dev/null 2>&1 && command -v setpriv >/dev/null; then
    chmod 755 "$T"
    OUT=$(setpriv --reuid=nobody --regid=nogroup --clear-groups \
        timeout 60 objmig doctor --cache "$CACHE" "file://$T/nas" 2>&1) RC=$?
    says "for another user it is not his" 2 FAIL "cache directory: .*belongs to root"
fi

# ---- uploads nobody will finish: begun two days ago, by the server's clock

uploads() { cos_ctl GET uploads | python3 -c 'import json, sys
for u in json.load(sys.stdin): print(u["key"], u["id"])'; }
cos_ctl POST clock '{"offset_s":-180000,"code":"RequestTimeTooSkewed"}' >/dev/null
cos_fault '{"op":"UploadPart","action":"status","status":503,"count":100000}'
make_file "$T/big" 12000000
cp "$T/big" "$MNT/big"
begun() { [ "$(uploads | grep -c '^big ')" = 1 ] && row_of "$CACHE" big 'length(upload_id) > 20'; }
within 60 begun || fail "an upload is begun" "$(uploads)"
kill_daemon
umount -l "$MNT"
cos_ctl POST clock '{"offset_s":0}' >/dev/null
cos_ctl DELETE faults >/dev/null
read -r _ ID <<<"$(uploads)"
doctor cos
says "an old upload the journal names is its own" 0 ok "uploads of \[cos\]: none is older than a day but those of the journal \(1\)"
doctor --abort-uploads --yes cos
says "and is not aborted" 0 ok "uploads of \[cos\]: none to abort"
is "it is still there" "$(uploads)" "big $ID"
copy begun
sql "$CACHE" "UPDATE intent SET upload_id='?1' WHERE key=CAST('big' AS BLOB)"
doctor cos
says "nor is one whose id was not learnt" 0 ok "uploads of \[cos\]: none is older than a day but those of the journal \(1\)"
CACHE=$ORIGINAL
copy other
sql "$CACHE" "UPDATE intent SET remote=99 WHERE key=CAST('big' AS BLOB)"
doctor cos
says "another bucket's row does not name it" 0 warn "uploads of \[cos\]: key \"big\", upload $ID"
CACHE=$ORIGINAL
copy unclear
sql "$CACHE" "UPDATE intent SET key=1 WHERE key=CAST('big' AS BLOB)"
doctor cos
says "a row without a key could name it" 2 warn "uploads of \[cos\]: cannot be judged.*to do: mend the journal first"
doctor --abort-uploads --yes cos
is "so it is not aborted" "$RC $(uploads)" "1 big $ID"
CACHE=$ORIGINAL
rm -rf "$CACHE"
mkdir -m 700 "$CACHE"
doctor cos
says "after the journal was lost it is listed" 0 warn "uploads of \[cos\]: key \"big\", upload $ID, 2 d 02:[0-9]+:[0-9]+ old, .*to do: .*--abort-uploads cos"
is "and not aborted" "$(uploads)" "big $ID"
doctor --abort-uploads cos </dev/null
is "nor without --yes" "$RC $(uploads)" "1 big $ID"
matches "which it says" "$OUT" "--yes aborts these 1 uploads"
OUT=$(timeout 60 objmig doctor --config "$CONF" --abort-uploads --yes cos 2>&1)
if [ -e /var/lib/objmig/journal.db ]; then
    skip "nor without a journal, unless the cache directory is named" "this machine has a journal in the default place"
else
    matches "nor without a journal, unless the cache directory is named" "$OUT" "name the cache directory"
fi
is "it is still there" "$(uploads)" "big $ID"
doctor --abort-uploads --yes cos
says "with --yes it is aborted" 0 ok "uploads of \[cos\]: key \"big\", upload $ID: aborted"
is "and is gone" "$(uploads)" ""
doctor
says "all is well" 0 ok "uploads of \[cos\]: none is older"
done_testing
