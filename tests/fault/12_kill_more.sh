#!/bin/bash
# kill -9 of the daemon at random moments over cp -a, rsync, mv between buckets, a directory's rename, rm -r and SQLite. After
# each: what was accepted is there, what was deleted stays away, no upload is left behind; a file that is moved is always in one
# place at least, and in the end in one only; what was interrupted and is run again completes.
# OBJMIG_SEED picks the moments, OBJMIG_KILLS how many.
# timeout: 600
. "$(dirname "$0")/../lib/lib.sh"
. "$TESTS_DIR/lib/kill.sh"
need_fuse
command -v sqlite3 >/dev/null || skip_all "sqlite3 is not installed"
RANDOM=${OBJMIG_SEED:-1}
INTERRUPTED=0
KILLS=${OBJMIG_KILLS:-7}
MNT=$T/mnt
ONE=one-1250000000 TWO=two-1250000000
OPTIONS=writeback_delay=0.05,list_ttl=1

make_tree() {
    local n
    for n in $(seq 60); do
        make_file "$T/src/d$((n % 5))/file $n" $((n * n * 37 % 90000)) "$n"
        touch -d "2001-02-03 04:05:$n.123456789 UTC" "$T/src/d$((n % 5))/file $n" 2>/dev/null
    done
    make_file "$T/src/large" $((6 << 20)) 1001
    chmod 640 "$T/src/large"
    : >"$T/src/empty"
}

# places HOW BUCKET/PREFIX …: each file of the source is whole in one of the places at least, or in exactly one (HOW once). The
# places are looked at in this order, which for a move is from where it goes to where it comes. Prints what is wrong.
places() {
    python3 -c '
import hashlib, json, os, sys, urllib.parse, urllib.request
control, source, how = sys.argv[1:4]
def get(what):
    with urllib.request.urlopen(f"http://127.0.0.1:{control}/_ctl/{what}") as f:
        return f.read()
def md5(data):
    return hashlib.md5(data).hexdigest()
seen = []
for place in sys.argv[4:]:
    bucket, prefix = place.split("/", 1)
    there = {}
    for o in json.loads(get(f"objects/{bucket}?prefix=" + urllib.parse.quote(prefix))):
        if not o["key"].endswith("/"):
            there[o["key"][len(prefix):]] = (o["size"], o.get("md5") or o["meta"].get("md5"))
    seen.append(there)
for at, _, names in os.walk(source):
    for name in names:
        path = os.path.join(at, name)
        rest = os.path.relpath(path, source)
        with open(path, "rb") as f:
            data = f.read()
        n = sum(there.get(rest) == (len(data), md5(data)) for there in seen)
        any_ = sum(rest in there for there in seen)
        if n == 0:
            print("nowhere:" if any_ == 0 else "altered:", rest)
        elif how == "once" and any_ != 1:
            print(f"in {any_} places:", rest)
' "$COS_CONTROL" "$T/src" "$@" 2>&1
}

# While PID runs, and once more: nothing is in neither place.
watch_places() {
    local pid=$1 bad
    shift
    while kill -0 "$pid" 2>/dev/null; do
        bad=$(places any "$@")
        [ -z "$bad" ] || break
    done
    [ -n "$bad" ] || bad=$(places any "$@")
    [ -z "$bad" ] || echo "$bad" >>"$T/watched"
}

# SQLite: one transaction after the other; LOG has the number of each that was committed.
write_database() {
    local n
    sqlite3 "$1" 'PRAGMA journal_mode=DELETE; CREATE TABLE t(n INTEGER PRIMARY KEY, v TEXT)' >/dev/null || return 1
    for n in $(seq 1000); do
        sqlite3 "$1" "INSERT INTO t VALUES($n, hex(randomblob(3000)))" 2>/dev/null || return 1
        echo "$n" >>"$2"
    done
}

back_again() { # NAME: after a kill
    mount_objmig all "$MNT" "$OPTIONS" || die "$1: no new mount after the kill"
    ok "$1: wait" objmig wait "$MNT" --timeout=300 -q || objmig errors "$MNT" | head -n 3 | sed 's/^/#   /'
    is "$1: no upload is left behind" "$(cos_ctl GET uploads)" "[]"
}

settle() { ok "$1: wait" objmig wait "$MNT" --timeout=300 -q; }

one_kill() { # N KIND
    local n=$1 kind=$2 name="$1 $2" from=$MNT/one/r$1 to=$MNT/two/r$1 pid watcher='' lo=0.01 hi=0.6
    case $kind in
        mv | rename | rm)
            cp -r "$T/src" "$from" || die "$name: no tree"
            settle "$name: before"
            nothing "$name: all is there" "$(places once "$ONE/r$n/")" ;;
    esac
    case $kind in
        cp-r) cp -r "$T/src" "$from" ;;
        cp-a) cp -a "$T/src" "$from" ;;
        rsync) rsync -a "$T/src/" "$from/" ;;
        mv) mv "$from" "$to" ;;
        rename) hi=0.2; mv "$from" "$MNT/one/q$n" ;;
        rm) hi=0.3; rm -rv "$from" ;;
        sqlite) hi=2; write_database "$MNT/one/$n.db" "$T/rows.$n" ;;
    esac >"$T/said.$n" 2>"$T/errors.$n" &
    pid=$!
    case $kind in
        mv) watch_places $pid "$ONE/r$n/" "$TWO/r$n/" & watcher=$! ;;
        rename) watch_places $pid "$ONE/r$n/" "$ONE/q$n/" & watcher=$! ;;
    esac
    pause $lo $hi
    kill -0 "$pid" 2>/dev/null && INTERRUPTED=$((INTERRUPTED + 1))
    kill_daemon KILL || fail "$name: the daemon was there to be killed"
    within 60 eval "! kill -0 $pid" || fail "$name: its writer hangs after the kill"
    wait $pid $watcher 2>/dev/null
    back_again "$name"
    case $kind in
        cp-r | cp-a | rsync)
            nothing "$name: each object is whole or absent" "$(COS_BUCKET=$ONE compare_objects "r$n/" "$T/src")"
            case $kind in
                cp-r) ok "$name: again" cp -rT "$T/src" "$from" ;;
                cp-a) ok "$name: again" cp -aT "$T/src" "$from" ;;
                rsync) ok "$name: again" rsync -a --delete "$T/src/" "$from/" ;;
            esac
            settle "$name: again"
            nothing "$name: complete" "$(places once "$ONE/r$n/")"
            [ "$kind" = cp-r ] || is "$name: modes and times" "$(rsync -ani "$T/src/" "$from/" 2>&1)" "" ;;
        mv)
            nothing "$name: nothing is in neither place" "$(places any "$ONE/r$n/" "$TWO/r$n/")"
            # As an operator would: what is left is copied, compared, and only then removed.
            [ ! -e "$from" ] || ok "$name: again" eval 'rsync -a "$from/" "$to/" && rm -r "$from"'
            settle "$name: again"
            nothing "$name: each is in one place" "$(places once "$ONE/r$n/" "$TWO/r$n/")"
            nothing "$name: which is the second" "$(places once "$TWO/r$n/")" ;;
        rename)
            nothing "$name: each is in one place" "$(places once "$ONE/r$n/" "$ONE/q$n/")"
            if [ -e "$from" ]; then ok "$name: again" mv "$from" "$MNT/one/q$n"; fi
            settle "$name: again"
            nothing "$name: all of them in the new one" "$(places once "$ONE/q$n/")"
            nok "$name: the old one is gone" ls "$from" ;;
        rm)
            nothing "$name: each object is whole or absent" "$(COS_BUCKET=$ONE compare_objects "r$n/" "$T/src")"
            nothing "$name: nothing deleted comes back" "$(sed -n "s|^removed '\(.*\)'\$|\1|p" "$T/said.$n" | while read -r path; do
                ls -d "$path" 2>/dev/null
                COS_BUCKET=$ONE cos_has "r$n${path#"$from"}" && echo "at the provider: $path"
            done)"
            [ ! -e "$from" ] || ok "$name: again" rm -r "$from"
            settle "$name: again"
            is "$name: all is gone" "$(COS_BUCKET=$ONE cos_keys "r$n/")" "" ;;
        sqlite)
            [ -s "$T/rows.$n" ] || echo 0 >"$T/rows.$n"
            is "$name: the database is whole" "$(sqlite3 "$MNT/one/$n.db" 'PRAGMA integrity_check' 2>&1)" ok
            at_least "$name: every committed row is there" "$(sqlite3 "$MNT/one/$n.db" \
                "SELECT count(*) FROM sqlite_master WHERE name='t'" 2>&1 | grep -qx 1 &&
                sqlite3 "$MNT/one/$n.db" 'SELECT count(*) FROM t' || echo 0)" "$(tail -n 1 "$T/rows.$n")" ;;
    esac
}

start_cos --bucket $ONE --bucket $TWO
# What was out at a kill settles for requestTimeoutMs before anything else is sent for its key (a deletion, say).
conf_cos one bucket=$ONE bigFileUploadPartSize=1048576 requestTimeoutMs=10000
conf_cos two bucket=$TWO bigFileUploadPartSize=1048576 requestTimeoutMs=10000
make_tree
mount_objmig all "$MNT" "$OPTIONS" || die "no mount"
kinds=(mv cp-a rename rsync rm sqlite cp-r)
for n in $(seq "$KILLS"); do
    one_kill "$n" "${kinds[$(((n - 1) % ${#kinds[@]}))]}"
done
echo "# $INTERRUPTED of $KILLS while the program ran, the others while its work went on behind it"
nothing "while it ran nothing was in neither place" "$(cat "$T/watched" 2>/dev/null)"
nothing "at most one part of a file was sent twice" "$(parts_twice)"
umount_objmig "$MNT"
ok "the daemon goes" daemon_gone
done_testing
