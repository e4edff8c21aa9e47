#!/bin/bash
# timeout: 600
# Every key survives: keys seeded over the providers' own APIs are all listed, read, copied to the other provider under the same
# key, renamed and deleted; what the target takes no object of is said before a byte moves.
#
# What cannot be here, and why: Ceph refuses keys that are not UTF-8 (InvalidObjectName), COS these (InvalidURI), keys above 850
# bytes (KeyTooLong) and control characters 0x18 to 0x1b (InvalidArgument). So invalid UTF-8 comes from a local directory.
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
need_rgw
start_cos --bucket test-1250000000 --bucket other-1250000000
export RGW_HOST RGW_PORT RGW_REGION RGW_ACCESS_KEY RGW_SECRET_KEY COS_PORT COS_REGION COS_SECRET_ID COS_SECRET_KEY
BUCKET=$(new_bucket) && BACK=$(new_bucket) || die "no bucket"
S3=$T/m-s3 S3B=$T/m-s3b COS=$T/m-cos COSB=$T/m-cosb DISK=$T/m-disk
conf_s3 s3 "$BUCKET"
conf_s3 s3b "$BACK"
conf_cos cos bucket=test-1250000000
conf_cos cosb bucket=other-1250000000
conf_local disk "$T/disk"
MANY=10000

odd() { python3 "$TESTS_DIR/lib/odd_keys.py" "$@"; }
# same NAME WANTED GOT: two lists of keys, sizes and MD5s
same() {
    local out
    out=$(diff "$2" "$3" | grep '^[<>]' | cut -c1-160 | head -n 20)
    if [ -z "$out" ] && [ -s "$2" ]; then pass "$1: $(wc -l <"$2") keys"; else fail "$1" "< wanted, > found" "$out"; fi
}

# held KIND BUCKET [PREFIX]: what a provider has, without the empty markers of directories.
held() { odd list "$1" "$2" | grep "^${3:-}" | grep -v '/ 0 d41d8cd98f00b204e9800998ecf8427e$' >"$T/list"; }

# ---- seeding

is "what Ceph refuses" "$(odd put s3 "$BUCKET" | sort)" $'%ED%95 InvalidObjectName\nbytes%FF%FE InvalidObjectName'
is "what COS refuses" "$(odd put cos other-1250000000 | sed 's/^kk*/k/' | sort)" \
    $'%ED%95 InvalidURI\nbytes%FF%FE InvalidURI\nescape%1B InvalidArgument\nk KeyTooLong'
odd expect | grep -v '%FF%FE\|^%ED%95 ' >"$T/held.s3"
grep -v '^escape%1B \|^kk*/' "$T/held.s3" >"$T/held.cos"
odd list s3 "$BUCKET" >"$T/list"
same "S3 holds all others" "$T/held.s3" "$T/list"
odd list cos other-1250000000 >"$T/list"
same "COS holds all others" "$T/held.cos" "$T/list"
is "seeding $MANY" "$(odd many cos test-1250000000 $MANY 2>&1)" ''

for m in s3 s3b cos cosb disk; do
    ok "mount $m" mount_objmig "$m" "$T/m-$m"
done
is "one daemon" "$(daemon_pids | wc -l)" 1

# ---- listed and read

odd walk "$S3" >"$T/walk"
same "S3: every key has a path" "$T/held.s3" "$T/walk"
odd walk "$COSB" >"$T/walk"
same "COS: every key has a path" "$T/held.cos" "$T/walk"
# As the head of names.c says.
while IFS=$'|' read -r path key; do
    is "cat $path" "$(cat "$S3/$path")" "the bytes of $key"
done <<'END'
a/^2F/b|a//b
^2F/lead|/lead
^2E|.
x/^2E./y|x/../y
dir^2F|dir
dir/^2F|dir/
dir/sub^2F|dir/sub
%2F|%2F
*|*
^5E2F|^2F
tab^09here|tab	here
END
is "names in one directory, once each" "$(ls -1 "$S3/long" | sort | uniq -d)" ''

SINCE=$(req_mark "$COS_LOG")
is "$MANY keys in one directory" "$(ls -f "$COS/many" | grep -c '^[0-9]')" $MANY
at_most "$MANY keys: by pages of 1,000" "$(SINCE=$SINCE req_count "$COS_LOG" GET)" $((MANY / 1000 + 2))
is "$MANY keys with attributes" "$(find "$COS/many" -type f -size -2 | wc -l)" $MANY
at_most "$MANY keys: a request for none of them" "$(SINCE=$SINCE req_count "$COS_LOG" HEAD)" 5

# ---- S3 -> COS

SINCE=$(req_mark "$COS_LOG")
mkdir "$COS/in"
cp -r "$S3/." "$COS/in/" 2>"$T/cp.err"
is "S3 -> COS: cp says that not all could go" $? 1
is "S3 -> COS: it names those COS takes no object of" "$(sed "s|.*/||" "$T/cp.err" | sort)" \
    "escape^1B': Invalid or incomplete multibyte or wide character"$'\n'"$(printf '%0100d' 0 | tr 0 z)': File name too long"
is "S3 -> COS: the log has the reasons" "$(grep -c 'warn *names .*key=in/.* refused: ' "$LOG")" 2
is "S3 -> COS: no request for them" "$(tail -n "+$((SINCE + 1))" "$COS_LOG" | grep -c 'escape\|zzzz')" 0
ok "S3 -> COS: objmig wait" timeout 300 objmig wait -q "$COS"
sed 's/^/in\//' "$T/held.cos" >"$T/want"
held cos test-1250000000 in/
same "S3 -> COS: the same keys" "$T/want" "$T/list"
odd walk "$COS/in" >"$T/walk"
same "S3 -> COS: as the mount shows them" "$T/want" "$T/walk"

# A second time, with the directories there before the objects of their names.
ok "again: cp" bash -c 'cp -r "$1/." "$2/in/" 2>&1 | grep -v "Invalid or incomplete multibyte\|File name too long"; [ "${PIPESTATUS[0]}" = 1 ]' - "$S3" "$COS"
ok "again: objmig wait" timeout 300 objmig wait -q "$COS"
held cos test-1250000000 in/
same "again: the same keys" "$T/want" "$T/list"

# ---- COS -> S3, with attributes

ok "COS -> S3: cp -a" cp -a "$COSB/." "$S3B/"
ok "COS -> S3: objmig wait" timeout 300 objmig wait -q "$S3B"
held s3 "$BACK"
same "COS -> S3: the same keys" "$T/held.cos" "$T/list"
odd walk "$S3B" >"$T/walk"
same "COS -> S3: as the mount shows them" "$T/held.cos" "$T/walk"

# ---- renamed

mkdir "$COS/moved"
shopt -s dotglob
ok "mv of every name" mv "$COS/in/"* "$COS/moved/"
shopt -u dotglob
ok "mv: objmig wait" timeout 300 objmig wait -q "$COS"
sed 's/^in/moved/' "$T/want" >"$T/want.moved"
held cos test-1250000000 moved/
same "mv: the keys moved" "$T/want.moved" "$T/list"
held cos test-1250000000 in/
is "mv: none is left" "$(cat "$T/list")" ''
odd walk "$COS/moved" >"$T/walk"
same "mv: as the mount shows them" "$T/want.moved" "$T/walk"
# One after the other, to a name that is as odd.
ok "mv to odd names" bash -c 'cd "$1" && mkdir new && mv plain "new/^0A" && mv "dir^2F" "new/^2E." && mv dir/^2F new/^2F &&
    mv "$(echo long/ccc*/cccc*\!)" new/bang && mv "new/bang" "long/$(printf "%0200d" 0)"' - "$COS/moved"
ok "mv to odd names: objmig wait" timeout 300 objmig wait -q "$COS"
held cos test-1250000000 moved/
for key in new/%0A new/.. new/ "long/$(printf '%0200d' 0)"; do
    is "there is ${key:0:20}" "$(grep -c "^moved/$key " "$T/list")" 1
done

# ---- what COS takes no object of, by every way to make a name

SINCE=$(req_mark "$COS_LOG")
DEEP=$COS/moved/$(printf '%0200d/%0200d/%0200d' 0 0 0)
mkdir -p "$DEEP"
refused() { is "$1" "$("${@:3}" 2>&1 | sed 's/.*: //')" "$2"; }
LATE=$DEEP/$(printf '%0250d' 0)
refused "too long: create" 'File name too long' bash -c ': >"$1"' - "$LATE"
refused "too long: mkdir" 'File name too long' mkdir "$LATE"
refused "too long: symlink" 'File name too long' ln -s x "$LATE"
refused "too long: mknod" 'File name too long' mkfifo "$LATE"
refused "too long: mv" 'File name too long' mv "$COS/moved/*" "$LATE"
refused "too long: mv of a directory" 'File name too long' mv "$COS/moved/long" "$DEEP/long"
for way in 'cp 50%25' 'ln -s x' mkdir mkfifo 'mv 50%25'; do
    refused "a control character: ${way%% *}" 'Invalid or incomplete multibyte or wide character' bash -c "cd \"\$1\" && $way ^1A" - "$COS/moved"
done
is "nothing was moved by that" "$(cat "$COS/moved/*" "$COS/moved/50%25")" 'the bytes of *the bytes of 50%25'
ok "objmig wait has nothing to say" objmig wait -q "$COS"
is "and nothing was sent" "$(tail -n "+$((SINCE + 1))" "$COS_LOG" | grep '"method":"P' | grep -c '%1A\|\\u001a\|0\{250\}\|/long/')" 0

# ---- invalid UTF-8 lives in a local directory, and goes nowhere else

printf 'the bytes of it' >"$T/disk/"$'bytes\xff\xfe'
is "local: cat" "$(cat "$DISK/bytes^FF^FE")" 'the bytes of it'
ok "local: mv" mv "$DISK/bytes^FF^FE" "$DISK/^80"
ok "local: objmig wait" timeout 300 objmig wait -q "$DISK"
is "local: the key" "$(getfattr --only-values -e hex -n user.objmig.key "$DISK/^80" 2>/dev/null | od -An -tx1)" ' 80'
for m in "$S3B" "$COS"; do
    refused "invalid UTF-8 -> $(basename "$m")" 'Invalid or incomplete multibyte or wide character' cp "$DISK/^80" "$m/"
done

# ---- a directory whose own key has content

is "the directory's content" "$(cat "$S3B/dir/^2F")" 'the bytes of dir/'
ok "chmod of the directory" chmod 700 "$S3B/dir"
ok "touch of the directory" touch "$S3B/dir"
ok "chmod: objmig wait" timeout 300 objmig wait -q "$S3B"
is "chmod: the content is there" "$(s3 GET "/$BACK/dir/")" 'the bytes of dir/'
ok "rm of the content alone" rm "$S3B/dir/^2F"
ok "rm of the content: objmig wait" timeout 300 objmig wait -q "$S3B"
is "rm of the content: the rest is there" "$(odd list s3 "$BACK" | grep -v '/ 0 ' | grep -o '^dir[^ ]*')" $'dir\ndir/file\ndir/sub\ndir/sub/file'
is "rm of the content: and shows" "$(ls "$S3B/dir" | tr '\n' ' ')" 'file sub sub^2F '

# ---- deleted

shopt -s dotglob
for where in "$COS/moved" "$COS/many" "$S3B/*" "$COSB/*"; do
    ok "rm -r ${where#"$T"/}" rm -r $where
done
shopt -u dotglob
for m in "$COS" "$COSB" "$S3B"; do
    ok "rm: objmig wait" timeout 300 objmig wait -q "$m"
done
is "rm: COS" "$(odd list cos test-1250000000 | grep -v '^in/ 0 ')" ''
is "rm: COS, seeded" "$(odd list cos other-1250000000)" ''
is "rm: S3" "$(odd list s3 "$BACK")" ''
done_testing
