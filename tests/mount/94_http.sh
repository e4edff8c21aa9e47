#!/bin/bash
# provider = http: lists of URLs, served by nginx, to a local disk and to COS; interrupted, run again, with a changed source,
# and from a server that knows no ranges. Nothing can be written to it. What is wrong with a list is said.
# timeout: 600
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
WEB=$T/www LISTS=$T/lists MNT=$T/mnt
BIG=$((20 << 20)) # three parts
python3 "$TESTS_DIR/lib/web_tree.py" "$WEB" $BIG || die "no tree"
start_cos
start_nginx "$WEB"
BASE=http://127.0.0.1:$WEB_PORT
mkdir "$LISTS"
url_list "$WEB" "$BASE" >"$LISTS/all"
conf_http web "$LISTS/all"
printf 'Key,Url\ncopy of big,%s\n' "$BASE/norange/big" >"$LISTS/norange"
conf_http norange "$LISTS/norange"
conf_cos cos bigFileUploadPartSize=8M bigFileExecutorNum=1
FILES=$(find "$WEB" -type f | wc -l)

same() { ok "$1" bash -c 'out=$(diff -r "$1" "$2" 2>&1); echo "$out" | head; [ -z "$out" ]' - "$2" "$3"; }
finished() { ok "$1: objmig wait" timeout 300 objmig wait -q "$MNT"; }
# web_count METHOD: requests since the mark that brought or asked for something of a file.
mark() { WEB_MARK=$(wc -l <"$WEB_LOG") COS_MARK=$(req_mark "$COS_LOG"); }
web_count() { tail -n "+$((WEB_MARK + 1))" "$WEB_LOG" | awk -v m="$1" '$3 == m { n++ } END { print n + 0 }'; }
cos_count() { SINCE=$COS_MARK req_count "$COS_LOG" '*' "$1"; }

# ---- what is there

is "objmig ls tells the keys without a request" "$(objmig ls --config "$CONF" -R web: | sort)" "$(cd "$WEB" && find . -type f | sed 's,^\./,,' | sort)"
is "none was made" "$(wc -l <"$WEB_LOG")" 0
ok "mount" mount_objmig all "$MNT" list_ttl=600
mark
is "names" "$(ls -A "$MNT/web/many" | wc -l)" 20
at_most "cost no request" "$(web_count HEAD)" 1
is "a size" "$(stat -c %s "$MNT/web/many/file-007.png")" 70
at_most "costs little" "$(web_count HEAD)" 4
is "the times are the server's" "$(stat -c %Y "$MNT/web/top.html")" $((1700000000 + 77))
is "the sizes, too" "$(cd "$MNT/web" && find . -type f -printf '%P %s\n' | sort)" "$(cd "$WEB" && find . -type f -printf '%P %s\n' | sort)"
at_most "each file was asked for once" "$(web_count HEAD)" $((FILES + 4))
is "its type" "$(getfattr --only-values --absolute-names -n user.mime_type "$MNT/web/many/file-001.png")" image/png

# ---- nothing can be written

refused() { # NAME COMMAND …
    local name=$1 out
    shift
    out=$("$@" 2>&1)
    matches "$name is refused" "$out" "Read-only file system"
}
echo new >"$T/new"
refused "cp to it" cp "$T/new" "$MNT/web/new"
refused "cp over a file" cp "$T/new" "$MNT/web/top.html"
refused "mkdir" mkdir "$MNT/web/dir"
refused "rm" rm -f "$MNT/web/top.html"
refused "mv" mv "$MNT/web/top.html" "$MNT/web/new"
refused "touch" touch "$MNT/web/top.html"
refused "truncate" truncate -s 0 "$MNT/web/top.html"
refused "ln -s" ln -s x "$MNT/web/link"
refused "setfattr" setfattr -n user.a -v b "$MNT/web/top.html"
is "all is as it was" "$(cat "$MNT/web/top.html" | md5sum)" "$(md5sum <"$WEB/top.html")"

# ---- to a local disk and to COS

ok "cp -r to a local disk" cp -r "$MNT/web" "$T/local"
same "every byte is there" "$WEB" "$T/local"
ok "cp -r to COS" cp -r "$MNT/web" "$MNT/cos/copy"
finished "to COS"
same "every byte is there" "$WEB" "$MNT/cos/copy"
is "COS has all of it" "$(cos_keys copy/ | grep -vc '/$')" "$FILES"
is "and its MD5" "$(cos_stat copy/big meta.md5)" "$(md5_of "$WEB/big")"
matches "by parts" "$(cos_stat copy/big etag)" '-[0-9]+"?$'
is "and its type" "$(cos_stat copy/many/file-001.png headers.content-type)" image/png

mark
ok "cp -r again" cp -r "$MNT/web/." "$MNT/cos/copy/"
finished "again"
is "no byte comes from the web" "$(web_count GET)" 0
is "and none goes to COS" "$(cos_count PutObject) $(cos_count UploadPart)" "0 0"

mark
ok "a server without ranges" cp "$MNT/norange/copy of big" "$MNT/cos/norange"
finished "without ranges"
is "every byte is there" "$(cos_cat norange | md5sum)" "$(md5sum <"$WEB/big")"
matches "by parts" "$(cos_stat norange etag)" '-[0-9]+"?$'

# ---- interrupted

cos_fault '{"op":"UploadPart","action":"hold","skip":1}'
mark
ok "cp of three parts" cp "$MNT/web/big" "$MNT/cos/resumed"
ok "one is there" within 60 bash -c '[ "$(curl -s --noproxy "*" "http://127.0.0.1:$1/_ctl/uploads" | grep -o "\"resumed\"" | wc -l)" = 1 ]' - "$COS_CONTROL"
ok "the second is on its way" within 60 bash -c '[ "$(tail -n "+$1" "$2" | grep -c " GET /big ")" -ge 2 ]' - "$((WEB_MARK + 1))" "$WEB_LOG"
ok "kill -9" kill_daemon
umount -l "$MNT" 2>/dev/null
cos_ctl DELETE faults >/dev/null
ok "mount again" mount_objmig all "$MNT" list_ttl=600
finished "resumed"
is "every byte is there" "$(cos_cat resumed | md5sum)" "$(md5sum <"$WEB/big")"
at_most "at most one part was sent twice" "$(cos_count UploadPart)" 4

# ---- a changed source

exec 5<"$MNT/web/big"
make_file "$WEB/big" $((BIG + 1)) 9
nok "who opened one version does not read the next" cat <&5
exec 5<&-
ok "the log says why" grep -q 'key=big .*another version than the one asked for' "$LOG"
umount_objmig "$MNT" && daemon_gone || die "the daemon stays"
ok "mount with short memory" mount_objmig all "$MNT" list_ttl=0
ok "cp again" cp -r "$MNT/web/big" "$MNT/cos/copy/"
finished "changed"
is "has the new version" "$(cos_cat copy/big | md5sum)" "$(md5sum <"$WEB/big")"
umount_objmig "$MNT" && daemon_gone || die "the daemon stays"

# ---- what is dead in a list shows

{ echo "$BASE/top.html"; echo "$BASE/no/such.file"; echo "http://127.0.0.1:$WEB_PORT/ftp/x"; echo "http://127.0.0.1:$WEB_PORT/loop/x"; } >"$LISTS/all"
ok "mount" mount_objmig web "$MNT" list_ttl=600
is "it is named" "$(find "$MNT" -type f 2>/dev/null | wc -l; ls "$MNT/no")" $'4\nsuch.file'
out=$(cp -r "$MNT" "$T/dead" 2>&1)
matches "cp tells of it" "$out" "such.file': No such file or directory"
cmp "$WEB/top.html" "$T/dead/top.html" && pass "what is alive is copied" || fail "what is alive is copied"
ok "the log says which line: dead" grep -q 'all:2: the server refuses it' "$LOG"
ok "no redirect to another protocol" grep -q 'the redirect of all:3 is not followed: it does not begin with http:// or https://' "$LOG"
ok "nor in circles" grep -q 'the redirect of all:4 is not followed: there were five before' "$LOG"
umount_objmig "$MNT" && daemon_gone || die "the daemon stays"

# ---- lists and settings that are wrong

says() { # NAME REGEX: mounting `web` fails with one line that matches
    local out
    out=$(timeout 60 mount.objmig web "$MNT" -o "config=$CONF,cache=$CACHE,log=$LOG" 2>&1)
    if mountpoint -q "$MNT"; then umount "$MNT"; fi
    matches "$1" "$out" "$2"
    is "$1: in one line" "$(wc -l <<<"$out")" 1
}
printf '%s/a\nftp://x/y\n%s/b\n%s/%%00\n' "$BASE" "$BASE" "$BASE" >"$LISTS/all"
says "a bad line" 'all:2: it does not begin with http:// or https://; correct the line or remove it \(and 1 more, see the log\)'
ok "the log has the other" grep -q 'all:4: its path has a NUL byte' "$LOG"
printf '%s/a\n\n%s/a?v=2\n' "$BASE" "$BASE" >"$LISTS/all"
says "two URLs of one key" "all:1 and all:3 give one key, 'a'; remove one"
rm "$LISTS/all"
says "no list" 'urllistPath: .*/lists/all cannot be read: No such file'
echo "$BASE/auth/top.html" >"$LISTS/all"
says "a password is wanted" 'all:1: the server wants another user and password.*check accessKeyId and accessKeySecret'
rm "$CONF"
conf_http web "$LISTS/all" accessKeyId="$WEB_USER" accessKeySecret=wrong
says "another is wanted" 'all:1: the server wants another user and password'
rm "$CONF"
conf_http web lists/all
says "a relative path" 'urllistPath: not absolute; write urllistPath = /FILE or /DIRECTORY'
rm "$CONF"
conf_http web "$LISTS/all" accessKeyId="$WEB_USER" accessKeySecret="$WEB_PASSWORD"
ok "with the right one" mount_objmig web "$MNT"
cmp "$WEB/top.html" "$MNT/auth/top.html" && pass "its file can be read" || fail "its file can be read"
ok "doctor finds nothing" objmig doctor --config "$CONF" --cache "$CACHE"
nok "the password is in no log" grep -q "$WEB_PASSWORD" "$LOG"
umount_objmig "$MNT"
done_testing
