#!/bin/bash
# Files that are open for long: nothing of them is published before it is written, and larger ones than the spool can be renamed
# while they are on their way.
# timeout: 150
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
start_cos
# What is out at the kill settles as long as a request may take: by default five minutes.
conf_cos cos bigFileUploadPartSize=1M smallFileThreshold=1M requestTimeoutMs=10000
M=$T/mnt
SIZE=$((80 << 20)) # the spool takes 64 MiB
keys_are() { is "$1: what is in the bucket" "$(cos_keys | xargs)" "$2"; }
# arrived KEY FILE: the object has the file's bytes.
arrived() { [ "$(cos_cat "$1" | md5sum)" = "$(md5sum <"$2")" ]; }
hold() { cos_fault "{\"op\":\"$1\",\"action\":\"hold\",\"count\":0}"; }
until_go() { until [ -e "$T/go" ]; do sleep 0.1; done; }
let_go() { cos_ctl DELETE faults >/dev/null; }

make_file "$T/big" $SIZE
ok "mount" mount_objmig cos "$M" cache_size=64M

# ---- a shell closes its own descriptor of what it opened before anything is written (C1)

echo base >"$M/over"
ok "wait" objmig wait -q "$M"
SINCE=$(req_mark "$COS_LOG")
(until_go; echo data) >"$M/fresh" &
pids=$!
(until_go; echo data) >"$M/over" &
pids+=" $!"
(until_go; echo data) | dd of="$M/dd" status=none &
pids+=" $!"
opened() { [ -e "$M/fresh" ] && [ ! -s "$M/over" ] && [ -e "$M/dd" ]; }
ok "three files are opened to be written, two by a shell" within 60 opened
: >"$M/empty"
ok "one without a byte is made beside them" within 60 cos_has empty
is "after which nothing of them has been sent" "$(req_count "$COS_LOG" PUT)" 1
is "what was there still is" "$(cos_cat over)" base
touch "$T/go"
# shellcheck disable=SC2086
wait $pids
ok "they are written" objmig wait -q "$M"
is "each is sent once" "$(req_count "$COS_LOG" PUT)" 4
is "with its bytes" "$(cos_cat fresh; cos_cat over; cos_cat dd)" $'data\ndata\ndata'
rm "$M"/*
ok "wait" objmig wait -q "$M"
keys_are "removed" ""

# ---- larger than the spool, and renamed (C8)

ok "rsync of a file larger than the spool" rsync "$T/big" "$M/file"
ok "wait" objmig wait -q "$M"
ok "it arrives" arrived file "$T/big"
keys_are "rsync" file

mkdir "$M/d"
rm "$T/go"
(cat "$T/big"; until_go) >"$M/d/log" &
writer=$!
is_long() { [ "$(stat -c %s "$M/$1")" = $SIZE ]; }
ok "a file larger than the spool is written and stays open" within 120 is_long d/log
ok "it can be renamed" timeout 60 mv "$M/d/log" "$M/d/log.1"
ok "and its old name used for another" eval 'echo another >"$M/d/log"'
ok "and the directory it is in" timeout 60 mv "$M/d" "$M/e"
nok "it is not to be found where it was" stat "$M/d/log.1"
ok "but there" is_long e/log.1
touch "$T/go"
wait $writer
is "its writer ends well" $? 0
ok "wait" objmig wait -q "$M"
ok "it arrives under its new name" arrived e/log.1 "$T/big"
is "so does the other" "$(cos_cat e/log)" another
keys_are "moved" "e/log e/log.1 file"

# ---- and killed

hold CompleteMultipartUpload
cp "$T/big" "$M/tmp" 2>/dev/null & # its close waits
copier=$!
sent() { [ "$(SINCE=$mark req_count "$COS_LOG" PUT UploadPart)" -ge 80 ]; }
mark=$(req_mark "$COS_LOG")
ok "all its parts are there" within 120 sent
ok "it is renamed over what is there" timeout 60 mv "$M/tmp" "$M/file"
kill_daemon KILL
let_go
wait $copier
ok "mounted again" mount_objmig cos "$M" cache_size=64M
nok "its old name is gone" stat "$M/tmp"
ok "wait" objmig wait -q "$M" --timeout=120
ok "it arrives" arrived file "$T/big"
keys_are "killed" "e/log e/log.1 file"
ok "umount" umount_objmig "$M"
ok "the daemon ends" daemon_gone
done_testing
