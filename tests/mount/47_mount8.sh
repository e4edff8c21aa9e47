#!/bin/bash
# Installed, and used by mount(8), umount(8), fstab and an ordinary user, as every other file system is.
# All in a mount name space of its own: mount(8) looks for helpers in /sbin only.
if [ -z "${OBJMIG_OWN_NS:-}" ]; then
    export OBJMIG_OWN_NS=1
    exec unshare --mount --propagation private "$0" "$@"
fi
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
conf_local a "$T/bucket-a"
conf_local b "$T/bucket-b"
mkdir -m 700 "$CACHE"
mkdir "$T/a" "$T/b" "$T/all" "$T/here"
OPTIONS=config=$CONF,cache=$CACHE,log=$LOG

ok "meson install" env DESTDIR="$T/here" meson install -C "$OBJMIG_BUILD" --no-rebuild
mkdir "$T/sbin"
mount -t tmpfs -o size=100m none "$T/sbin" && cp -a "$T/here/sbin/." "$T/sbin/" &&
    mount -t overlay -o "lowerdir=$T/sbin:$(realpath /sbin)" none "$(realpath /sbin)" || skip_all "no overlay over /sbin"
PATH=$T/here/usr/local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# As udev has it.
mknod -m 666 "$T/sbin/fuse" c 10 229 && mount --bind "$T/sbin/fuse" /dev/fuse || die "no /dev/fuse for all"

# flags DIR: ro or rw and the like, of the topmost mount on it.
flags() { awk -v d="$1" '$5 == d { f = $6 } END { print f }' /proc/self/mountinfo; }
times() { awk -v d="$1" '$5 == d { n++ } END { print n + 0 }' /proc/self/mountinfo; }

# ---- mount, remount, umount

ok "mount -t objmig" mount -t objmig a "$T/a" -o "$OPTIONS"
matches "without setuid programs and devices" ",$(flags "$T/a")," ,nosuid,nodev,
is "mount -f mounts nothing" "$(mount -f -t objmig b "$T/b" -o "$OPTIONS" && times "$T/b")" 0
ok "remount,ro with type and options" mount -t objmig -o "remount,ro,$OPTIONS" a "$T/a"
matches "it is read-only" "$(flags "$T/a")" '^ro,nosuid,nodev'
nok "nothing is written" touch "$T/a/file"
ok "remount,rw of the directory alone" mount -o remount,rw "$T/a"
matches "it is writable" "$(flags "$T/a")" '^rw,nosuid,nodev'
ok "and is written" touch "$T/a/file"
ok "remount,ro of the directory alone" mount -o remount,ro "$T/a"
matches "it is read-only again" "$(flags "$T/a")" '^ro,nosuid,nodev'
is "all this is one mount" "$(times "$T/a")" 1
said=$(mount -t objmig -o remount,ro a "$T/here" 2>&1)
is "remount of what is no mount: status" $? 1
matches "it says so" "$said" 'no objmig mount'
ok "umount" umount "$T/a"
# Not by mount(8), which keeps what is its own default to itself.
ok "mount with suid" mount.objmig a "$T/a" -o "$OPTIONS,suid,dev,noexec"
is "its flags" "$(flags "$T/a")" rw,noexec,relatime
ok "remount,ro changes that alone" mount -o remount,ro "$T/a"
is "its flags then" "$(flags "$T/a")" ro,noexec,relatime
ok "and back" mount -o remount,rw "$T/a"

# ---- umount while somebody is in there

echo content >"$T/a/file"
exec 5<"$T/a/file"
said=$(umount "$T/a" 2>&1)
is "umount with an open file: status" $? 32
matches "it says why" "$said" busy
is "the mount still works" "$(cat "$T/a/file")" content
ok "umount -l" umount -l "$T/a"
is "the open file is read on" "$(cat <&5)" content
nok "under the directory is what was there" test -e "$T/a/file"
ok "mounted again meanwhile: by the same daemon" mount -t objmig a "$T/a" -o "$OPTIONS"
is "which is one" "$(daemon_pids | wc -l)" 1
exec 5<&-
ok "umount of that" umount "$T/a"
ok "now it ends" daemon_gone

# ---- fstab

cat >"$T/fstab" <<END
a:deep/er $T/a objmig $OPTIONS,_netdev,noatime 0 0
all $T/all objmig $OPTIONS,_netdev,ro,x-systemd.automount 0 0
b $T/b objmig $OPTIONS,_netdev,noauto 0 0
END
for k in 1 2 3; do
    ok "mount -a, time $k" mount -a -T "$T/fstab"
    is "each is mounted once, but for noauto" "$(times "$T/a") $(times "$T/all") $(times "$T/b")" "1 1 0"
done
ok "mount DIR" env LIBMOUNT_FSTAB="$T/fstab" mount "$T/b"
ok "remount,rw by fstab" env LIBMOUNT_FSTAB="$T/fstab" mount -o remount,rw "$T/all"
matches "is done" "$(flags "$T/all")" '^rw'
is "one daemon for all" "$(daemon_pids | wc -l)" 1

# ---- all remotes in one mount

make_file "$T/data" $((9 << 20))
ok "cp into one remote" cp "$T/data" "$T/all/a/data"
if command -v strace >/dev/null; then
    ok "cp to the other" strace -f -e trace=copy_file_range,write -o "$T/strace" cp "$T/all/a/data" "$T/all/b/data"
    is "the bytes went by copy_file_range" "$(awk '/copy_file_range/ { n += $NF } END { print n }' "$T/strace")" $((9 << 20))
    is "and by nothing else" "$(grep -c 'write(' "$T/strace")" 0
else
    ok "cp to the other" cp "$T/all/a/data" "$T/all/b/data"
fi
ok "every byte is there" cmp "$T/data" "$T/b/data"
ok "mv from one remote to the other" mv "$T/all/a/data" "$T/all/b/moved"
ok "every byte is there as well" cmp "$T/data" "$T/b/moved"
nok "and no longer where it was" test -e "$T/all/a/data"
nok "no directory is made beside the remotes" mkdir "$T/all/c"
ok "objmig wait" objmig wait -q "$T/all"
ok "in the bucket too" cmp "$T/data" "$T/bucket-b/moved"

# ---- an open file that is removed

ok "an open file has no name once it is removed" python3 - "$T/b" <<'END'
import os, sys
path = os.path.join(sys.argv[1], "open")
fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
os.write(fd, b"content")
assert os.fstat(fd).st_nlink == 1, os.fstat(fd)
again = os.open(path, os.O_RDONLY)
os.unlink(path)
assert os.fstat(fd).st_nlink == 0, os.fstat(fd)
assert os.fstat(again).st_nlink == 0, os.fstat(again)
os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
os.fchmod(fd, 0o640)
st = os.fstat(fd)
assert st.st_nlink == 0 and st.st_size == 7 and st.st_mode & 0o777 == 0o640, st
assert os.stat(path).st_nlink == 1
os.rename(path, path + ".2")
os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
over = os.open(path + ".2", os.O_RDONLY)
os.rename(path, path + ".2")
assert os.fstat(over).st_nlink == 0, os.fstat(over)
END
ok "umount -a" umount -a -t fuse.objmig
ok "the daemon ends" daemon_gone

# ---- an ordinary user, by fusermount3

mkdir -m 755 "$T/user" "$T/user/bin"
chmod 755 "$T"
cp "$T/here/sbin/mount.objmig" "$T/here/usr/local/bin/objmig" "$T/user/bin/"
cat >"$T/user/run" <<'END'
set -eu
cd "$1"
export PATH=$1/bin:$PATH HOME=$1/home
mkdir -p "$HOME/.config/objmig" one two all
umask 077
for m in one two; do mkdir "bucket-$m"; printf '[%s]\nprovider = local\npath = %s\n\n' "$m" "$1/bucket-$m"; done >"$HOME/.config/objmig/objmig.conf"
here=log=$1/log,cache=$1/state
for m in one two all; do mount.objmig "$m" "$1/$m" -o "$here"; done
mount.objmig one "$1/one" -o "$here"
[ "$(grep -c " $1/\(one\|two\|all\) " /proc/self/mountinfo)" = 3 ]
cp -r "$2" one/tree
cp -a one/tree two/tree
cp -r all/one/tree all/two/again
diff -r "$2" two/tree
diff -r "$2" two/again
[ "$(stat -c %u two/tree)" = "$(id -u)" ]
objmig wait -q one
objmig wait -q two
diff -r "$2" bucket-two/again
objmig status one >/dev/null
# After a crash, too.
echo late >one/late
kill -9 $(pgrep -u "$(id -u)" -x objmig)
mount.objmig one "$1/one" -o "$here"
[ "$(cat one/late)" = late ]
diff -r "$2" two/tree
[ "$(grep -c " $1/\(one\|two\|all\) " /proc/self/mountinfo)" = 3 ]
for m in one two all; do fusermount3 -u "$1/$m"; done
END
mkdir -m 755 "$T/tree" "$T/tree/sub"
echo some >"$T/tree/file"
echo more >"$T/tree/sub/file"
chmod -R go+rX "$T/tree"
chown -R nobody "$T/user"
ok "an ordinary user mounts, copies, is killed, mounts again" \
    timeout 100 setpriv --reuid=nobody --regid=nogroup --clear-groups bash -x "$T/user/run" "$T/user" "$T/tree"
ok "and its daemon ends" daemon_gone
is "what it wrote last is in its bucket" "$(cat "$T/user/bucket-one/late")" late
# A machine that systemd runs, as far as the daemon can tell: it asks for a scope of its own (rules G6).
mkdir "$T/fake" "$T/bucket-sd" "$T/sd"
cat >"$T/fake/busctl" <<END
#!/bin/sh
echo "\$@" >>"$T/busctl.args"
END
chmod +x "$T/fake/busctl"
printf '[sd]\nprovider = local\npath = %s\n' "$T/bucket-sd" >"$T/sd.conf"
chmod 600 "$T/sd.conf"
ok "under systemd the daemon mounts" unshare -m env PATH="$T/fake:$PATH" sh -c 'mount -t tmpfs none /run && mkdir -p /run/systemd/system &&
    mount.objmig sd "$1/sd" -o "config=$1/sd.conf,cache=$1/sd-cache,log=$1/sd.log,stop_timeout=50" && echo kept >"$1/sd/file" &&
    umount "$1/sd"' sh "$T"
ok "and ends with its last mount" within 60 grep -q event=ended "$T/sd.log"
ok "it asked once" test "$(wc -l <"$T/busctl.args")" = 1
ok "for a scope that is stopped late, with time to drain" \
    grep -Eq ' StartTransientUnit .* objmig-[0-9]+\.scope fail .* PIDs au 1 [0-9]+ .* KillMode s mixed TimeoutStopUSec t 60000000 After as 1 network-online.target Before as 1 remote-fs.target' "$T/busctl.args"

# In a chroot, whose root is a plain directory or a mount: nothing is looked for outside.
jail() {
    mkdir -p "$1/tmp/sd" "$1/tmp/bucket"
    local d
    for d in /bin /sbin /lib /lib64 /usr /etc /dev /proc; do
        [ -e "$d" ] && mkdir -p "$1$d" && mount --rbind "$d" "$1$d"
    done
    cp "$T/here/sbin/mount.objmig" "$T/here/usr/local/bin/objmig" "$1/tmp/"
    printf '[sd]\nprovider = local\npath = /tmp/bucket\n' >"$1/tmp/conf"
    chmod 600 "$1/tmp/conf"
    chroot "$1" /bin/sh -exc 'cd /tmp; ./mount.objmig sd /tmp/sd -o config=/tmp/conf,cache=/tmp/cache
        echo inside >sd/file; ./objmig wait sd; test "$(cat bucket/file)" = inside; umount sd'
}
ok "in a chroot" jail "$T/jail"
ok "its daemon ends" within 60 grep -q event=ended "$T/jail/tmp/cache/log"
mkdir "$T/jail-mount"
mount -t tmpfs none "$T/jail-mount"
ok "in a chroot that is a mount" jail "$T/jail-mount"
ok "its daemon ends too" within 60 grep -q event=ended "$T/jail-mount/tmp/cache/log"
done_testing
