#!/bin/bash
# Where journal and spool are, when nobody says where (rules C6): on a disk, or nowhere; and one daemon has them.
# timeout: 120
# All in a mount name space of its own: /var/lib and /home are others here.
if [ -z "${OBJMIG_OWN_NS:-}" ]; then
    export OBJMIG_OWN_NS=1
    exec unshare --mount --propagation private "$0" "$@"
fi
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
case $(stat -f -c %T "$T") in tmpfs | ramfs) skip_all "no disk below $T" ;; esac
conf_local nas "$T/bucket"
mkdir "$T/lib" "$T/home" "$T/d"
chmod 755 "$T"
HERE=config=$CONF,log=$LOG

# refused NAME REASON COMMAND …
refused() {
    local name=$1 want=$2
    shift 2
    SAID=$("$@" 2>&1)
    is "$name: status" $? 1
    is "$name: one line" "$(wc -l <<<"$SAID")" 1
    matches "$name: it says why, and what to do" "$SAID" "$want.*cache="
    nok "$name: nothing is mounted" mountpoint -q "$T/d"
}

# ---- root: /var/lib/objmig

mount --bind "$T/lib" /var/lib || skip_all "no bind mounts"
ok "root: without cache=" mount.objmig nas "$T/d" -o "$HERE"
echo content >"$T/d/file"
ok "root: wait" objmig wait -q "$T/d"
is "root: journal and spool" "$(cd "$T/lib" && ls -d objmig/journal.db objmig/tmp 2>&1 | xargs)" "objmig/journal.db objmig/tmp"
is "root: nobody else looks into it" "$(stat -c %a "$T/lib/objmig")" 700
ok "root: it is locked" bash -c '! flock -n "$1/objmig/lock" true' - "$T/lib"
ok "umount" umount "$T/d"
ok "the daemon ends" daemon_gone
ok "root: and free again" flock -n "$T/lib/objmig/lock" true
mount -t tmpfs none /var/lib
refused "root: on a tmpfs" '/var/lib/objmig is on a tmpfs' timeout 60 mount.objmig nas "$T/d" -o "$HERE"
nok "root: nothing is made there" test -e /var/lib/objmig
ok "root: who wants it there has it" mount.objmig nas "$T/d" -o "$HERE,cache=/var/lib/objmig"
is "root: what was written before is there" "$(cat "$T/d/file")" content
ok "umount" umount "$T/d"
ok "the daemon ends" daemon_gone
umount /var/lib

# ---- a user: ~/.local/state/objmig

mkdir "$T/bin"
cp "$OBJMIG_BUILD/fs/mount.objmig" "$OBJMIG_BUILD/tools/objmig" "$T/bin/"
mkdir -m 700 "$T/home/user" "$T/theirs"
(umask 077; printf '[nas]\nprovider = local\npath = %s\n' "$T/theirs" >"$T/home/user/conf")
chown -R nobody "$T/home/user" "$T/theirs" "$T/d"
mknod -m 666 "$T/fuse" c 10 229 && mount --bind "$T/fuse" /dev/fuse || die "no /dev/fuse for all"
mount --bind "$T/home" /home
# as_user HOME COMMAND …
as_user() {
    local home=$1
    shift
    timeout 60 env -u XDG_STATE_HOME HOME="$home" PATH="$T/bin:$PATH" setpriv --reuid=nobody --regid=nogroup --clear-groups "$@"
}
THEIRS=config=/home/user/conf,log=$T/theirs.log
touch "$T/theirs.log" && chown nobody "$T/theirs.log"
ok "a user: without cache=" as_user /home/user mount.objmig nas "$T/d" -o "$THEIRS"
is "a user: journal and spool" "$(cd "$T/home/user/.local/state" && ls -d objmig/journal.db objmig/tmp 2>&1 | xargs)" "objmig/journal.db objmig/tmp"
ok "umount" as_user /home/user fusermount3 -u "$T/d"
ok "the daemon ends" daemon_gone
mkdir -m 777 "$T/elsewhere"
refused "a user: a home below /tmp" '/tmp/.* is below /tmp' as_user "$T/elsewhere" mount.objmig nas "$T/d" -o "$THEIRS"
is "a user: nothing is made there" "$(ls -A "$T/elsewhere")" ''
mkdir -m 777 "$T/home/mem"
mount -t tmpfs -o mode=777 none /home/mem
refused "a user: XDG_STATE_HOME on a tmpfs" '/home/mem/state/objmig is on a tmpfs' \
    as_user /home/user env XDG_STATE_HOME=/home/mem/state mount.objmig nas "$T/d" -o "$THEIRS"
umount /home/mem
done_testing
