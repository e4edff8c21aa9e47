#!/bin/bash
# A real tree between local disk, S3 (RGW) and COS, by the tools people use: every object the same, with its MD5, its headers and,
# where the tool carries them, its mode, time and links.
# timeout: 900
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
need_rgw
export "${!RGW_@}"
start_cos
BUCKET=$(new_bucket) || die "no bucket"
S3=$T/s3mount COS=$T/cosmount
conf_s3 s3 "$BUCKET"
conf_cos cos

FILES=${OBJMIG_FILES:-5000}
python3 "$TESTS_DIR/lib/make_tree.py" "$T/tree" "$FILES" || die "no tree"
python3 "$TESTS_DIR/lib/make_tree.py" "$T/small" 1500 || die "no small tree"

at_s3() { python3 "$TESTS_DIR/lib/s3_objects.py" "$BUCKET" "$2" | python3 "$TESTS_DIR/lib/check_tree.py" "$1" "$2"; }
at_cos() { cos_ctl GET "objects/$COS_BUCKET" | python3 "$TESTS_DIR/lib/check_tree.py" "$1" "$2"; }
finished() { ok "$1: objmig wait" timeout 300 objmig wait -q "$2"; }
alike() { ok "$1: diff -r is silent" same_tree "$2" "$3"; }
same_tree() {
    local out
    out=$(diff -r --no-dereference "$1" "$2" 2>&1 | head -n 10)
    echo "$out"
    [ -z "$out" ]
}
# Type, mode, time with nanoseconds and link of everything below a directory. Directories take part in what follows -type d too.
attributes() { (cd "$1" && find . -mindepth 1 -printf '%p %y %m %T@ %l\n' | sort); }
same_attributes() { diff <(attributes "$1") <(attributes "$2") | head -n 10 | tee "$T/diff"; [ ! -s "$T/diff" ]; }

# Behind the mounts' back, as another program wrote it.
foreign() { s3 PUT "/$BUCKET/foreign/$1" "${@:2}" >/dev/null || die "cannot put $1"; }
foreign page --data-binary '<p>hello</p>' -H 'Content-Type: text/x-page; charset=euc-kr' -H 'Cache-Control: max-age=77, private' \
    -H 'Content-Disposition: attachment; filename="page 1.html"' -H 'Content-Language: ko' \
    -H 'Expires: Wed, 21 Oct 2037 07:28:00 GMT' -H 'x-amz-meta-colour: blue' -H 'x-amz-meta-owner-team: storage 7'
foreign packed.txt --data-binary "$(printf 'squeezed')" -H 'Content-Type: text/plain' -H 'Content-Encoding: x-ours'
foreign rclone.bin --data-binary 'by rclone' -H 'x-amz-meta-mtime: 1111111111.123456789'

ok "mount s3" mount_objmig s3 "$S3"
ok "mount cos" mount_objmig cos "$COS"

# ---- local disk -> S3 -> COS

ok "cp -r of $FILES files: local -> S3" cp -r "$T/tree" "$S3/"
finished "local -> S3" "$S3"
ok "local -> S3: every object" at_s3 "$T/tree" tree/
alike "local -> S3" "$T/tree" "$S3/tree"

ok "cp -r of $FILES files: S3 -> COS" cp -r "$S3/tree" "$COS/"
finished "S3 -> COS" "$COS"
ok "S3 -> COS: every object" at_cos "$T/tree" tree/
alike "S3 -> COS" "$S3/tree" "$COS/tree"

# ---- headers and user metadata

ok "foreign objects: S3 -> COS" cp -r "$S3/foreign" "$COS/"
finished "foreign" "$COS"
field() { is "$1: $2" "$(cos_stat "foreign/$1" "$2")" "$3"; }
field page headers.content-type 'text/x-page; charset=euc-kr'
field page headers.cache-control 'max-age=77, private'
field page headers.content-disposition 'attachment; filename="page 1.html"'
field page headers.content-language ko
field page headers.expires 'Wed, 21 Oct 2037 07:28:00 GMT'
field page meta.colour blue
field page meta.owner-team 'storage 7'
field page meta.md5 "$(printf '<p>hello</p>' | md5sum | cut -c1-32)"
field packed.txt headers.content-encoding x-ours
field packed.txt md5 "$(printf 'squeezed' | md5sum | cut -c1-32)"
ok "cp -a carries an mtime rclone wrote" cp -a "$S3/foreign/rclone.bin" "$COS/foreign/again.bin"
is "its mtime at S3" "$(stat -c %.9Y "$S3/foreign/rclone.bin")" 1111111111.123456789
finished "rclone" "$COS"
field again.bin meta.mtime 1111111111.123456789
is "a header is an extended attribute" "$(getfattr --absolute-names --only-values -n user.mime_type "$COS/foreign/page" 2>&1)" 'text/x-page; charset=euc-kr'
is "so is the MD5" "$(getfattr --absolute-names --only-values -n user.objmig.md5 "$COS/foreign/page" 2>&1)" "$(printf '<p>hello</p>' | md5sum | cut -c1-32)"

# ---- tools which carry attributes: local -> S3, S3 -> COS, local -> COS

ok "cp -a: local -> S3" cp -a "$T/small" "$S3/small"
finished "cp -a: local -> S3" "$S3"
ok "cp -a: local -> S3: every object" at_s3 "$T/small" small/
ok "cp -a: local -> S3: modes, times, links" same_attributes "$T/small" "$S3/small"

ok "cp -a: S3 -> COS" cp -a "$S3/small" "$COS/cp-a"
ok "rsync -a: S3 -> COS" rsync -a "$S3/small/" "$COS/rsync-a/"
ok "rsync -a: local -> COS" rsync -a "$T/small/" "$COS/from-local/"
ok "tar: S3 -> COS" bash -c 'mkdir "$2/tar" && tar -C "$1/small" -cf - . | tar -C "$2/tar" -xpf -' - "$S3" "$COS"
finished "cp -a, rsync, tar" "$COS"
for how in cp-a rsync-a from-local tar; do
    ok "$how: every object" at_cos "$T/small" $how/
    if [ $how = tar ]; then
        # tar's own format keeps whole seconds.
        touch -r "$T/small" "$COS/tar"
        ok "tar: modes, links" diff <(attributes "$T/small" | sed 's/\.[0-9]\{10\}//') <(attributes "$COS/tar" | sed 's/\.[0-9]\{10\}//')
    else
        ok "$how: modes, times, links" same_attributes "$T/small" "$COS/$how"
    fi
    alike "$how" "$T/small" "$COS/$how"
done

# ---- mv

ok "mv: S3 -> COS" mv "$S3/small" "$COS/moved"
finished "mv" "$COS"
ok "mv: every object" at_cos "$T/small" moved/
ok "mv: modes, times, links" same_attributes "$T/small" "$COS/moved"
nok "mv: the source is gone from the mount" test -e "$S3/small"
finished "mv, at the source" "$S3"
is "mv: and from the bucket" "$(python3 "$TESTS_DIR/lib/s3_objects.py" "$BUCKET" small/)" '[]'

# ---- the other way

ok "cp -r: COS -> S3" cp -r "$COS/moved" "$S3/back"
ok "cp -a: COS -> S3" cp -a "$COS/moved" "$S3/back-a"
ok "cp -r: COS -> local disk" cp -r "$COS/moved" "$T/back"
finished "COS -> S3" "$S3"
ok "cp -r: COS -> S3: every object" at_s3 "$T/small" back/
ok "cp -a: COS -> S3: every object" at_s3 "$T/small" back-a/
ok "cp -a: COS -> S3: modes, times, links" same_attributes "$T/small" "$S3/back-a"
alike "COS -> S3" "$COS/moved" "$S3/back"
alike "COS -> local disk" "$T/small" "$T/back"

# ---- what a daemon without any memory of it sees

umount_objmig "$S3"
umount_objmig "$COS"
ok "the daemon ends" daemon_gone
CACHE=$T/cache2
ok "mount s3 anew, without a journal" mount_objmig s3 "$S3"
ok "mount cos anew" mount_objmig cos "$COS"
alike "anew: S3 and COS" "$S3/tree" "$COS/tree"
ok "anew: modes, times, links from the metadata" same_attributes "$T/small" "$COS/rsync-a"
is "nothing pending, nothing failed" "$(python3 -c 'import json, sys
p = json.load(open(sys.argv[1]))["pending"]; print(sum(p.values()))' "$COS/.objmig/status")" 0
done_testing
