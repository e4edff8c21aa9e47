#!/bin/bash
# Programs which ask more of a file system than cp: git, SQLite, fio, tar. After each: everything is uploaded, and a daemon
# that knows nothing of it shows the same.
# timeout: 800
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
for tool in git fio; do
    command -v $tool >/dev/null || skip_all "$tool is not installed"
done
DATABASE=$TESTS_DIR/mount/database.py
MNT=$T/mnt
OPTIONS=allow_other,writeback_delay=0.2,list_ttl=1
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null HOME=$T
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@t GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@t

start_cos
start_s3fast --bucket suites
conf_cos cos
conf_s3fast s3 suites
conf_local local "$T/data"

contents() { ( cd "$1" && find . -type f -exec md5sum {} + | LC_ALL=C sort -k2 ); }
# Names, types, modes, owners, times, sizes, targets of links; a directory's size is nobody's business.
describe() {
    ( cd "$1" && find . ! -type d -printf '%P %y %m %U:%G %s %T@ %l\n' -o -printf '%P %y %m %U:%G %T@\n' | LC_ALL=C sort )
}
no_dir_times() { sed -E 's/^(.* d [0-7]+ [0-9]+:[0-9]+) [0-9.-]+$/\1/'; }

# settled NAME: all is at the provider, and read again from there it is the same.
settled() {
    local before
    before=$(contents "$MNT/$1")
    ok "$R: $1: wait" objmig wait "$MNT" --timeout=300 -q
    umount_objmig "$MNT"
    ok "$R: $1: the daemon goes" daemon_gone
    rm -rf "$CACHE"
    ok "$R: $1: a new mount with an empty cache" mount_objmig "$R" "$MNT" "$OPTIONS" || exit 1
    ok "$R: $1: the content is the same" diff <(echo "$before") <(contents "$MNT/$1")
}

# ---- git

make_repository() {
    local n
    git init -q "$T/repository" && cd "$T/repository" || die "git init"
    for n in $(seq 25); do
        mkdir -p "d$((n % 4))"
        echo "$n" >"f$n"
        seq "$n" $((400 * (n % 3 + 1))) >"d$((n % 4))/g$n"
        git add -A && git commit -qm "$n" || die "git commit"
    done
    ln -s d1/g1 link && chmod 755 f1 && { make_file big $((6 << 20)) 3; true; } && git add -A && git commit -qm more
    cd "$T" || exit 1
}

check_git() {
    local d=$MNT/git
    mkdir "$d"
    ok "$R: git clone" git clone -q --no-hardlinks "$T/repository" "$d/clone"
    ok "$R: git fsck" git -C "$d/clone" fsck --full --strict
    ok "$R: what is checked out" diff -r --exclude=.git "$T/repository" "$d/clone"
    ( cd "$d/clone" && echo more >>f1 && git commit -qam more && git checkout -q -b side HEAD~5 && git rm -q f2 &&
        git commit -qm side && git checkout -q - && git merge -q side -m merge ) >"$T/git.txt" 2>&1 ||
        fail "$R: git commit, branch, merge" "$(tail "$T/git.txt")"
    ok "$R: git gc" git -C "$d/clone" gc -q --prune=now
    is "$R: git gc packed everything" "$(git -C "$d/clone" count-objects)" "0 objects, 0 kilobytes"
    ok "$R: git fsck after gc" git -C "$d/clone" fsck --full --strict
    is "$R: git status" "$(git -C "$d/clone" status --porcelain)" ''
    settled git
    ok "$R: git fsck by a new daemon" git -C "$d/clone" fsck --full --strict
    is "$R: git status by a new daemon" "$(git -C "$d/clone" status --porcelain)" ''
    is "$R: git counts commits" "$(git -C "$d/clone" rev-list --count HEAD)" 29
    ok "$R: git clone from the mount" git clone -q "$d/clone" "$T/back.$R"
    ok "$R: has the same" diff -r --exclude=.git "$d/clone" "$T/back.$R"
    rm -rf "$d" "$T/back.$R"
}

# ---- SQLite

check_sqlite() {
    local d=$MNT/sqlite
    mkdir "$d"
    ok "$R: SQLite, delete" timeout 100 python3 "$DATABASE" shared "$d/delete.db" delete
    ok "$R: SQLite, WAL, shared memory" timeout 100 python3 "$DATABASE" shared "$d/wal.db" wal
    ok "$R: SQLite, WAL, exclusive" timeout 100 python3 "$DATABASE" exclusive "$d/exclusive.db"
    ok "$R: SQLite, a killed transaction" timeout 100 python3 "$DATABASE" interrupted "$d/killed.db"
    settled sqlite
    is "$R: SQLite: the files" "$(cd "$d" && echo *)" "delete.db exclusive.db killed.db killed.db-journal wal.db"
    ok "$R: SQLite, delete: its rows" python3 "$DATABASE" check "$d/delete.db" 200
    ok "$R: SQLite, WAL: its rows" python3 "$DATABASE" check "$d/wal.db" 200
    ok "$R: SQLite, exclusive: its rows" python3 "$DATABASE" check "$d/exclusive.db" 400
    ok "$R: SQLite, killed: rolled back" python3 "$DATABASE" check "$d/killed.db" 200
    rm -rf "$d"
}

# ---- fio

# Each job's blocks carry their own checksum and place. The same seeds again with verify_only tell every block anew.
make_jobs() {
    cat >"$T/fio.jobs" <<'JOBS'
[global]
size=12m
verify=crc32c
verify_fatal=1
verify_state_save=0
randrepeat=1
thread=1
group_reporting=1
fallocate=none

[sequential]
rw=write
bs=96k

[random]
rw=randwrite
bs=4k

[odd-blocks]
rw=randwrite
bs=7168
size=7m

[mapped]
ioengine=mmap
rw=randwrite
bs=8k

[past-the-cache]
rw=randwrite
direct=1
bs=16k

[many-in-flight]
ioengine=libaio
iodepth=16
rw=randwrite
direct=1
bs=32k

[read-write]
rw=randrw
bs=4k
JOBS
}

check_fio() {
    local d=$MNT/fio
    mkdir "$d"
    ok "$R: fio writes and verifies" timeout 150 fio --directory="$d" --aux-path="$T" --minimal "$T/fio.jobs"
    settled fio
    is "$R: fio: all files" "$(ls "$d" | wc -l)" 7
    ok "$R: fio verifies by a new daemon" timeout 150 fio --directory="$d" --aux-path="$T" --minimal --verify_only=1 "$T/fio.jobs"
    # Over what is an object by now: half of each file's blocks are new.
    ok "$R: fio writes over objects" timeout 150 fio --directory="$d" --aux-path="$T" --minimal --randseed=99 "$T/fio.jobs"
    settled fio
    rm -rf "$d"
}

# ---- tar

make_tree() {
    local t=$T/tree
    python3 "$TESTS_DIR/lib/make_tree.py" "$t" 200 >/dev/null || die "no tree"
    mkdir -p "$t/owners/deep" "$t/no entry"
    make_file "$t/owners/one" 100000 1
    make_file "$t/owners/deep/two words" 10 2
    ln -s one "$t/owners/link"
    ln -s /nowhere "$t/owners/dangling"
    mkfifo "$t/owners/fifo"
    chown -h 1001:1002 "$t/owners/one" "$t/owners/link"
    chown 33:33 "$t/owners/deep" "$t/no entry"
    chmod 4751 "$t/owners/one"
    chmod 2750 "$t/owners/deep"
    chmod 1777 "$t/owners"
    chmod 000 "$t/no entry" "$t/owners/deep/two words"
    touch -h -d '2011-11-11 11:11:11.111111111' "$t/owners/link"
    touch -d '1969-07-20 20:17:40.000000001 UTC' "$t/owners/one" "$t/no entry"
    touch -d '2100-01-01 00:00:00.999999999 UTC' "$t/owners/deep" "$t/owners/fifo"
    tar --format=posix -C "$t" -cf "$T/tree.tar" . || die "tar c"
}

check_tar() {
    local d=$MNT/tar
    mkdir "$d"
    ok "$R: tar x" tar -C "$d" -xpf "$T/tree.tar"
    ok "$R: tar: names, types, modes, owners, times, targets" diff <(describe "$T/tree") <(describe "$d")
    ok "$R: tar: content" diff -r --no-dereference --exclude=fifo "$T/tree" "$d"
    ok "$R: tar d finds no difference" tar -C "$d" -df "$T/tree.tar"
    settled tar
    # A real directory's time is that of the newest entry, and entries come behind the caller's back.
    [ $R = local ] || ok "$R: tar: names, types, modes, owners, times, targets by a new daemon" diff <(describe "$T/tree") <(describe "$d")
    [ $R != local ] || ok "$R: tar: the same but for times of directories" diff <(describe "$T/tree" | no_dir_times) <(describe "$d" | no_dir_times)
    ok "$R: tar d by a new daemon finds no difference" tar -C "$d" -df "$T/tree.tar"
    ok "$R: tar c of the mount, tar x elsewhere" bash -c 'mkdir "$2" && tar --format=posix -C "$1" -c . | tar -C "$2" -xp' - "$d" "$T/back.$R"
    ok "$R: tar: it is the same" diff <(describe "$d") <(describe "$T/back.$R")
    rm -rf "$d" "$T/back.$R"
}

make_repository
make_jobs
make_tree
for R in local cos s3; do
    ok "$R: mount" mount_objmig "$R" "$MNT" "$OPTIONS" || continue
    check_git
    check_tar
    # To the file system a directory is as any remote here: not a third time what takes longest.
    [ $R = local ] || { check_sqlite; check_fio; }
    ok "$R: wait at the end" objmig wait "$MNT" --timeout=300 -q
    is "$R: nothing is left" "$(ls -A "$MNT")" ''
    umount_objmig "$MNT"
    ok "$R: the daemon goes" daemon_gone
    rm -rf "$CACHE"
done
is "no upload is left behind" "$(cos_ctl GET uploads)" '[]'
done_testing
