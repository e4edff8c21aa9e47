#!/bin/bash
# From every provider to every other, in one mount: a tree with awkward names, metadata and one object of three parts, by cp -r;
# then once more, which must move nothing. Prints the matrix. OBJMIG_MATRIX: small files in the tree (24; 300 before a release).
# timeout: 3600
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
need_rgw
FILES=${OBJMIG_MATRIX:-24}
MNT=$T/mnt SEED=$T/local/src
TARGETS=(local s3 cos oss ks3 azure gcs bos upyun qiniu)
PARTS="smallFileThreshold=5M bigFileUploadPartSize=5M"

mkdir -p "$SEED/sub dir/깊은 곳" "$SEED/a+b %41"
names=('plain.txt' ' leading' 'trailing ' '+plus+' '50%' '%2F' '100%25 off' 'a?b#c' 'a;b,c:d@e=f' 'a&b' '<tag>"&amp;' "it's" '$~!(){}[]|`'
    '^2F' '-dash' '.hidden' 'a..b' '안녕.html' 'emoji 🎈' 'é' '*' 'picture.png')
n=0
while [ $n -lt "$FILES" ]; do
    for dir in . 'sub dir/깊은 곳' 'a+b %41'; do
        [ $n -lt "$FILES" ] || break
        name=${names[$((n / 3 % ${#names[@]}))]}
        [ $((n / 3)) -lt ${#names[@]} ] || name="$((n / 3 / ${#names[@]})) $name"
        echo "content $n" >"$SEED/$dir/$name"
        n=$((n + 1))
    done
done
: >"$SEED/empty"
make_file "$SEED/three parts.bin" $((11 << 20)) 3
(cd "$SEED" && find . -type f -exec md5sum {} + | sort -k2) >"$T/md5"

start_cos
start_oss
start_ks3
start_azure
start_gcs
start_bos
start_upyun
start_qiniu
start_nginx "$SEED"
url_list "$SEED" "http://127.0.0.1:$WEB_PORT" --manifest | sed '2,$s/^"*/&src\//' >"$T/urls.csv"
conf_local local "$T/local" $PARTS
conf_s3 s3 "$(new_bucket)" $PARTS
for name in cos oss ks3 azure gcs bos upyun qiniu; do
    "conf_$name" $name $PARTS
done
conf_http http "$T/urls.csv"
ok "mount all" mount_objmig all "$MNT" list_ttl=600

finished() { timeout 600 objmig wait -q "$MNT" || fail "$1: objmig wait"; }
bytes_done() { python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["done"]["bytes"])' "$MNT/.objmig/status"; }
# attributes DIR [NAME …]: those of all its files, by names relative to it.
attributes() { (cd "$1" && find . -type f -print0 | sort -z | xargs -0 getfattr -h "${@:2}" 2>/dev/null | grep -v '^$'); }
md5_attributes() {
    (cd "$1" && find . -type f -print0 | sort -z | while IFS= read -rd '' f; do
        echo "$(getfattr -h --only-values -n user.objmig.md5 "$f" 2>/dev/null)  $f"
    done | sort -k2)
}
# right FROM TO: what is wrong with a copy, in a few words; nothing when it is right.
right() {
    diff -r "$SEED" "$2" >"$T/diff" 2>&1 || { echo "bytes"; return; }
    diff "$T/md5" <(md5_attributes "$2") >"$T/diff" || { echo "md5"; return; }
    [ "$(attributes "$2" -d -m '^user\.[a-z_]*$')" = "$(attributes "$1" -d -m '^user\.[a-z_]*$')" ] || echo "metadata"
}

# The first of them all is the local directory. The empty file has none: cp copies no byte of it, and so no file system sees a copy.
find "$MNT/local/src" -type f -size +0 -exec setfattr -n user.colour -v blue {} + -exec setfattr -n user.mime_type -v text/x-matrix {} +
finished "metadata"
for to in "${TARGETS[@]:1}"; do
    cp -r "$MNT/local/src" "$MNT/$to/src" || fail "cp to $to"
done
finished "sources"

declare -A CELL
for from in "${TARGETS[@]}" http; do
    for to in "${TARGETS[@]}"; do
        [ "$from" = "$to" ] || cp -r "$MNT/$from/src" "$MNT/$to/from-$from" || fail "cp: $from -> $to"
    done
    finished "$from"
    wrong=''
    for to in "${TARGETS[@]}"; do
        CELL[$from,$to]=-
        [ "$from" != "$to" ] || continue
        CELL[$from,$to]=$(right "$MNT/$from/src" "$MNT/$to/from-$from")
        [ -z "${CELL[$from,$to]}" ] || { wrong+=" $to:${CELL[$from,$to]}"; head -5 "$T/diff" | sed 's/^/# /'; }
    done
    is "from $from: bytes, MD5 attribute and metadata at all others" "$wrong" ''
    before=$(bytes_done)
    for to in "${TARGETS[@]}"; do
        [ "$from" = "$to" ] || cp -r "$MNT/$from/src/." "$MNT/$to/from-$from/" || fail "cp again: $from -> $to"
    done
    finished "$from again"
    is "from $from: a second cp -r moves no byte" "$(($(bytes_done) - before))" 0
done

{
    printf '%-8s' 'from\to'
    printf '%9s' "${TARGETS[@]}"
    echo
    for from in "${TARGETS[@]}" http; do
        printf '%-8s' "$from"
        for to in "${TARGETS[@]}"; do
            printf '%9s' "${CELL[$from,$to]:-ok}"
        done
        echo
    done
} | sed 's/^/# /'
ok "umount" umount_objmig "$MNT"
ok "the daemon goes" daemon_gone
done_testing
