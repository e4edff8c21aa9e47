#!/bin/bash
# The rules of a POSIX file system on mounted directories, with a local and with a COS remote: what programs may do, what is
# refused and how, and what is still so after a new mount with an empty cache.
# timeout: 400
. "$(dirname "$0")/../lib/lib.sh"
need_fuse

POSIX=$TESTS_DIR/mount/posix.py
MNT=$T/mnt

# new_cache: the next daemon starts with nothing but what the provider holds.
remount_fresh() {
    umount_objmig "$MNT" || return 1
    daemon_gone || return 1
    rm -rf "$CACHE"
    mount_objmig "$R" "$MNT" "$OPTIONS"
}

as_nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }

# describe DIR: names, types, modes, owners, times, sizes, link targets.
describe() { ( cd "$1" && find . -mindepth 1 ! -type d -printf '%P %y %m %U:%G %s %T@ %l\n' -o -type d -mindepth 1 -printf '%P %y %m %U:%G\n' | sort ); }

check_shell() {
    local d=$MNT/shell
    mkdir "$d" && cd "$d" || { fail "$R: mkdir"; return; }

    echo one >a
    echo two >>a
    is "$R: append by the shell" "$(cat a)" $'one\ntwo'
    mkdir -p sub/deep
    nok "$R: rmdir of a full directory fails" rmdir sub
    matches "$R: and says why" "$(rmdir sub 2>&1)" "not empty"
    mv a sub/deep/b
    is "$R: a file moved" "$(cat sub/deep/b)" $'one\ntwo'
    mv sub moved
    is "$R: a directory moved with what it holds" "$(cat moved/deep/b)" $'one\ntwo'
    nok "$R: the old name is gone" test -e sub
    echo three >c
    mv c moved/deep/b
    is "$R: a rename over a file replaces it" "$(cat moved/deep/b)" three
    mkdir moved/empty
    ok "$R: rmdir of an empty directory" rmdir moved/empty
    nok "$R: it is gone" test -e moved/empty
    ok "$R: rm -r" rm -r moved
    is "$R: nothing is left" "$(ls -A)" ""
    nok "$R: hard links are refused" ln "$POSIX" "$d/x"
    touch y
    nok "$R: hard links within the mount are refused" ln y z
    ok "$R: a symlink" ln -s "a target that is nowhere" link
    is "$R: its target" "$(readlink link)" "a target that is nowhere"
    ( umask 027; echo x >masked; mkdir maskdir )
    is "$R: umask of a file" "$(stat -c %a masked)" 640
    is "$R: umask of a directory" "$(stat -c %a maskdir)" 750
    ok "$R: mkfifo" mkfifo fifo
    is "$R: statfs knows a size" "$(stat -f -c %S "$d" | awk '{ print ($1 > 0) }')" 1
    ok "$R: df" df "$d"
    cd "$T"
    rm -rf "$d"
}

check_permissions() {
    local d=$MNT/perm
    mkdir "$d"
    chmod 755 "$T" "$MNT" "$d"
    echo secret >"$d/mine" && chmod 600 "$d/mine"
    echo open >"$d/all" && chmod 644 "$d/all"
    mkdir "$d/theirs" "$d/sticky" "$d/noexec"
    chown 65534:65534 "$d/theirs"
    chmod 1777 "$d/sticky"
    echo x >"$d/noexec/x" && chmod 644 "$d/noexec/x" && chmod 744 "$d/noexec"
    echo root >"$d/sticky/root"
    ok "$R: another user reads 0644" as_nobody cat "$d/all"
    nok "$R: not 0600" as_nobody cat "$d/mine"
    nok "$R: does not write 0644" as_nobody sh -c "echo x >>'$d/all'"
    nok "$R: does not create in 0755" as_nobody touch "$d/new"
    nok "$R: does not delete from 0755" as_nobody rm -f "$d/all"
    nok "$R: does not chmod what is not his" as_nobody chmod 777 "$d/all"
    nok "$R: does not chown" as_nobody chown 65534 "$d/all"
    nok "$R: does not pass a directory without x" as_nobody cat "$d/noexec/x"
    ok "$R: creates in his own directory" as_nobody sh -c "umask 022; echo his >'$d/theirs/f'"
    is "$R: it belongs to him" "$(stat -c %u:%g:%a "$d/theirs/f")" 65534:65534:644
    nok "$R: may not give it away" as_nobody chown 0 "$d/theirs/f"
    ok "$R: may chmod it" as_nobody chmod 600 "$d/theirs/f"
    nok "$R: sticky directories protect" as_nobody rm -f "$d/sticky/root"
    chmod 4755 "$d/all"
    chown 1:1 "$d/all"
    is "$R: chown takes set-user-id away" "$(stat -c %a "$d/all")" 755
    rm -rf "$d"
}

check_remount() {
    local d=$MNT/keep before
    mkdir -p "$d/dir/sub" "$d/emptydir"
    echo hello >"$d/dir/file"
    printf '' >"$d/dir/empty"
    make_file "$d/dir/sub/big" $((12 << 20)) 5
    ln -s ../dir/file "$d/emptydir/../dir/link"
    chmod 4751 "$d/dir/file"
    chmod 1770 "$d/dir/sub"
    chmod 700 "$d/emptydir"
    chown 12345:54321 "$d/dir/file" "$d/dir/sub"
    chown -h 7:8 "$d/dir/link"
    chmod 4751 "$d/dir/file"
    touch -d '1999-12-31 23:59:59.123456789' "$d/dir/file"
    touch -d '2031-01-02 03:04:05.987654321' "$d/dir/empty"
    touch -h -d '2001-02-03 04:05:06.000000007' "$d/dir/link"
    touch -d '1960-01-01 00:00:00.5 UTC' "$d/dir/sub/big"
    setfattr -n user.colour -v 'blue and ünï' "$d/dir/file"
    setfattr -n user.bin -v 0x00ff0a0d "$d/dir/sub/big"
    setfattr -n user.ondir -v yes "$d/dir/sub"
    setfattr -n user.gone -v x "$d/dir/file"
    setfattr -x user.gone "$d/dir/file"
    before=$(describe "$d")
    ok "$R: wait" objmig wait "$MNT" --timeout=300
    is "$R: the wait changed nothing" "$(describe "$d")" "$before"
    ok "$R: a new mount with an empty cache" remount_fresh
    is "$R: modes, owners, times and targets are the same" "$(describe "$d")" "$before"
    is "$R: xattr" "$(getfattr --only-values -n user.colour "$d/dir/file" 2>/dev/null)" 'blue and ünï'
    is "$R: binary xattr" "$(getfattr -e hex -n user.bin "$d/dir/sub/big" 2>/dev/null | sed -n 's/^user.bin=//p')" 0x00ff0a0d
    is "$R: xattr of a directory" "$(getfattr --only-values -n user.ondir "$d/dir/sub" 2>/dev/null)" yes
    nok "$R: a removed xattr stays removed" getfattr -n user.gone "$d/dir/file"
    make_file "$T/big" $((12 << 20)) 5
    ok "$R: content" cmp "$T/big" "$d/dir/sub/big"
    # Once more, now that the object is the base.
    chmod 600 "$d/dir/file"
    touch -d '2005-05-05 05:05:05.050505050' "$d/dir/file"
    setfattr -n user.colour -v red "$d/dir/file"
    before=$(describe "$d")
    ok "$R: a second mount with an empty cache" remount_fresh
    is "$R: changes of attributes alone are kept" "$(describe "$d")" "$before"
    is "$R: also of xattrs" "$(getfattr --only-values -n user.colour "$d/dir/file" 2>/dev/null)" red
    is "$R: and the content" "$(cat "$d/dir/file")" hello
    rm -rf "$d"
}

check_fsync_error() {
    [ "$R" = cos ] || return 0
    cos_fault '{"op":"PutObject","key":"refused","action":"status","status":403,"code":"AccessDenied"}'
    nok "$R: fsync says that the provider refused" python3 -c "
import os, sys
fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
os.write(fd, b'x')
os.fsync(fd)" "$MNT/refused"
    is "$R: the bytes are kept" "$(cat "$MNT/refused")" x
    objmig wait "$MNT" --timeout=20 >/dev/null 2>&1
    is "$R: wait exits with 2" $? 2
    cos_ctl DELETE faults >/dev/null
    ok "$R: retry" objmig retry "$MNT"
    ok "$R: then it is there" objmig wait "$MNT" --timeout=20
    is "$R: with its content" "$(cos_cat refused)" x
    rm "$MNT/refused"
}

start_cos
conf_cos cos
conf_local local "$T/data"
OPTIONS=allow_other,writeback_delay=0.2,list_ttl=1

for R in local cos; do
    ok "$R: mount" mount_objmig "$R" "$MNT" "$OPTIONS" || continue
    check_shell
    # Each call of the system, seen from python; it prints lines "ok …" or "not ok …".
    while read -r line; do
        case $line in
            "ok "*) pass "$R: ${line#ok }" ;;
            "not ok "*) fail "$R: ${line#not ok }" ;;
            *) echo "#   $line" ;;
        esac
    done < <(timeout 100 python3 "$POSIX" calls "$MNT/calls" 2>&1; [ $? = 0 ] || echo "not ok system calls: the script did not end well")
    check_permissions
    check_remount
    check_fsync_error
    ok "$R: wait at the end" objmig wait "$MNT" --timeout=300
    ok "$R: umount" umount_objmig "$MNT"
    ok "$R: the daemon goes" daemon_gone
    rm -rf "$CACHE"
done
is "nothing is left in the local remote" "$(cd "$T/data" && find . -mindepth 1 ! -path './.objmig*' | head)" ""
is "nothing is left in the bucket" "$(cos_keys)" ""
is "no upload is left behind" "$(cos_ctl GET uploads)" "[]"
done_testing
