#!/bin/bash
# One rclone.conf, read by rclone and by us: the two see the same objects, whoever wrote them.
# timeout: 240
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
command -v rclone >/dev/null || skip_all "rclone is not installed"
start_s3fast --bucket b
unset AWS_CA_BUNDLE # an older rclone does not take one
unset "${!AWS_@}" XDG_CONFIG_HOME
export RCLONE_CONFIG=$T/rclone.conf HOME=$T
MNT=$T/mnt FAR=$T/far
umask 077

# write_rclone SECRET: like a file rclone config makes
write_rclone() {
    cat >"$RCLONE_CONFIG.new" <<CONF
[store]
type = s3
provider = Other
access_key_id = $S3FAST_ACCESS_KEY
secret_access_key = $1
region = $S3FAST_REGION
endpoint = $S3FAST_ENDPOINT
acl = private
no_check_bucket = true

[photos]
type = alias
remote = store:b/photos

[disk]
type = local

[hidden]
type = crypt
remote = store:b/hidden
password = SECRETSECRET
CONF
    mv "$RCLONE_CONFIG.new" "$RCLONE_CONFIG"
}
write_rclone "$S3FAST_SECRET_KEY"

mkdir -p "$T/tree/deep/한글 +%41"
for i in 1 2 3; do make_file "$T/tree/deep/한글 +%41/f $i" $((i * 10000)) $i; done
make_file "$T/tree/parts" 20000000 4
: >"$T/tree/empty"
touch -d '2020-02-02 02:02:02.123456789' "$T/tree/deep/한글 +%41/f 1"

# As mount_objmig does, without a configuration of ours.
mount_rclone() {
    mkdir -p "$2" "$CACHE"
    timeout 60 mount.objmig "$1" "$2" -o "cache=$CACHE,log=$LOG${3:+,$3}" 2>&1
}
refused() {
    local out
    out=$(mount_rclone "$2" "$T/no")
    matches "$1" "$out" "$3"
    mountpoint -q "$T/no" && fail "$1: nothing is mounted"
}
# Names, sizes and times.
rclone_sees() { rclone lsf -R --files-only --format pst "$1" | sort; }
mount_shows() { rclone lsf -R --files-only --format pst --exclude '.objmig/**' "$1" | sort; }

ok "mount rclone:store:b" mount_rclone rclone:store:b "$MNT"
is "its name" "$(getfattr --only-values -n user.objmig.remote "$MNT" 2>/dev/null)" b@store
ok "again: it is mounted" mount_rclone rclone:store:b "$MNT"

# ---- what rclone writes, the mount shows

ok "rclone copy" rclone copy "$T/tree" store:b/theirs
ok "the mount shows it" diff -r "$T/tree" "$MNT/theirs"
is "the time, to the nanosecond" "$(stat -c %.9Y "$MNT/theirs/deep/한글 +%41/f 1")" "$(stat -c %.9Y "$T/tree/deep/한글 +%41/f 1")"
is "names, sizes, times" "$(mount_shows "$MNT/theirs")" "$(rclone_sees store:b/theirs)"

# ---- and the other way

ok "cp -a" cp -a "$T/tree" "$MNT/ours"
ok "wait" timeout 120 objmig wait -q "$MNT"
ok "rclone reads it" rclone copy store:b/ours "$T/back"
ok "the same" diff -r "$T/tree" "$T/back"
ok "rclone check: nothing to do" rclone check --one-way "$T/tree" store:b/ours
is "names, sizes, times: ours" "$(mount_shows "$MNT/ours")" "$(rclone_sees store:b/ours)"
ok "objmig ls" objmig ls -R rclone:store:b/ours
is "the same names" "$(objmig ls -R rclone:store:b/ours | grep -v '/$' | sed 's,^ours/,,' | sort)" "$(rclone lsf -R --files-only store:b/ours | sort)"

# ---- places below, aliases, directories

ok "rclone copy to an alias" rclone copy "$T/tree/deep" photos:2024
ok "mount the alias" mount_rclone rclone:photos:2024 "$FAR"
ok "it is what the alias has" diff -r "$T/tree/deep" "$FAR"
is "a place in the same bucket" "$(getfattr --absolute-names --only-values -n user.objmig.remote "$FAR") $(getfattr --absolute-names --only-values -n user.objmig.key "$FAR")" \
    "b@store photos/2024/"
ok "umount" umount_objmig "$FAR"
mkdir "$T/data" && echo x >"$T/data/x"
ok "mount a directory" mount_rclone "rclone:disk:$T/data" "$FAR"
is "its file" "$(cat "$FAR/x")" x
ok "umount" umount_objmig "$FAR"

# ---- new keys in the file are taken up

renewed() { grep -c 'event=credentials-renewed remote=b@store' "$LOG"; }
write_rclone wrongSecret
ok "the daemon reads rclone's file anew" within 20 eval '[ "$(renewed)" = 1 ]'
write_rclone "$S3FAST_SECRET_KEY"
ok "and again" within 20 eval '[ "$(renewed)" = 2 ]'
echo later >"$MNT/later"
ok "wait" timeout 60 objmig wait -q "$MNT"
is "written with the keys of now" "$(rclone cat store:b/later)" later

# ---- a daemon that died: the next start finds the same file, whatever the environment says

ok "kill the daemon" kill_daemon
( unset RCLONE_CONFIG; conf_local own "$T/own"; mount_objmig own "$T/ownmnt" ) >"$T/again.out" 2>&1
within 20 mountpoint -q "$MNT"
is "the mount is back" "$(cat "$MNT/later")" later

# ---- what is refused, is in one line, without a secret

refused "crypt" rclone:hidden:x 'rclone.conf:19: \[hidden\] type: crypt encrypts names and contents; name the remote below it'
refused "no such remote" rclone:stroe:b 'no remote \[stroe\]; did you mean store'
refused "no bucket" rclone:store: 'which bucket\? write rclone:store:BUCKET'
refused "no place" rclone:store 'write rclone:store:BUCKET'
out=$(mount_rclone rclone:store:b "$T/no" region=x)
matches "options are rclone's affair" "$out" 'option region: unknown'
( umask 022; cp "$RCLONE_CONFIG" "$T/open.conf"; chmod 644 "$T/open.conf" )
out=$(mount_rclone rclone:store:b "$T/no" "rclone_config=$T/open.conf")
matches "a file others may read" "$out" 'holds secrets, so its mode must be 0600'
printf 'RCLONE_ENCRYPT_V0:\nAAAA\n' >"$T/closed.conf"
out=$(mount_rclone rclone:store:b "$T/no" "rclone_config=$T/closed.conf")
matches "an encrypted file" "$out" 'is encrypted; make an open copy'
sed 's/^acl = private/acl = public-read/' "$RCLONE_CONFIG" >"$T/acl.conf"
out=$(RCLONE_CONFIG=$T/acl.conf objmig ls rclone:store:b 2>&1 >/dev/null)
matches "what is not kept is said" "$out" 'acl.conf:8: \[store\] acl: is not set'
ok "objmig doctor" objmig doctor --cache "$CACHE" rclone:store:b
nok "no secret in the log" grep -rqF -e "$S3FAST_SECRET_KEY" -e SECRETSECRET "$LOG" "$T/again.out"

umount_objmig "$MNT"
umount_objmig "$T/ownmnt"
ok "the daemon ends" daemon_gone
done_testing
