# What is measured. Each row_NAME PEER does one run: everything made anew and cold, then `timed`. A row a peer has no way to do
# returns 2. Sourced by tools/bench.

# timed FILES [option of run.py …] -- COMMAND …: sets R_… and R_STATS. $peer is the caller's.
timed() {
    local before after cap=$CAP
    R_FILES=$1
    shift
    [[ "$peer" != objmig ]] && is_mount "$peer" || cap=$OUR_CAP
    before=$(daemon_use)
    local pid
    for pid in "${DAEMONS[@]}"; do
        echo 5 2>/dev/null >"/proc/$pid/clear_refs" # the peak begins here
    done
    s3fast_ctl POST reset >/dev/null
    eval "$(python3 "$BENCH_DIR/run.py" --cap "$cap" "$@" 2>>"$T/run.out" || echo R_RC=130)"
    R_STATS=$(s3fast_ctl GET stats)
    after=$(daemon_use)
    R_CPU=$(awk -v a="$before" -v b="$after" -v c="$R_CPU" 'BEGIN { split(a, x, " "); split(b, y, " "); printf "%.2f", c + (y[1] - x[1]) / 100 }')
    # Of a mount its daemon, not cp.
    [ ${#DAEMONS[@]} = 0 ] || R_RSS=${after#* }
}

wrong() {
    R_RC=1
    R_WHY=$1
}

# same_objects BUCKET: its tree/ is that of the source, to the byte.
same_objects() {
    [ "$R_RC" = 0 ] || return 0
    [ "$(s3fast_ctl GET "sum?bucket=$1&prefix=tree/")" = "$TREE_SUM" ] || wrong "the objects are not those of the source"
}
same_files() {
    [ "$R_RC" = 0 ] || return 0
    diff -rq "$T/tree" "$1" >/dev/null || wrong "the files are not those of the source"
}

count_url() { echo "http://127.0.0.1:$S3FAST_PORT/_ctl/count?bucket=$1&prefix=$2"; }
# Options of run.py: over when the bucket has all of the tree. Ours is asked too: that is its promise.
until_tree() {
    UNTIL=(--until "$(count_url "$1" tree/)=>${TREE_SUM% *} " --count "$(count_url "$1" tree/)")
    [ "$2" != objmig ] || UNTIL+=(--then "objmig wait -q $T/b")
}

row_copy() {
    local peer=$1
    write_peer_conf src dst
    s3fast_ctl POST 'clear?bucket=dst' >/dev/null
    until_tree dst "$peer"
    if is_mount "$peer"; then
        peer_mount "$peer" a "$T/a" && peer_mount "$peer" b "$T/b" || return 1
        timed "$FILES" "${UNTIL[@]}" -- cp -r "$T/a/tree" "$T/b/"
    elif [ "$peer" = rclone-copy ]; then
        timed "$FILES" "${UNTIL[@]}" -- $(rclone_copy "$(rclone_at a tree)" "$(rclone_at b tree)")
    elif [ "$peer" = nullfs ] && [ "$DELAY" = 0 ]; then
        null_mount "$T/a" || return 1
        timed "$FILES" -- cp -r "$T/a/tree" "$T/a/b/"
        [ "$(find "$T/a/b" -type f -size 16384c | wc -l)" = "$FILES" ] || wrong "it did not copy"
        return 0 # nothing has arrived anywhere
    else
        return 2
    fi
    same_objects dst
}

_up() {
    local peer=$1
    shift
    write_peer_conf src dst
    s3fast_ctl POST 'clear?bucket=dst' >/dev/null
    until_tree dst "$peer"
    if is_mount "$peer"; then
        peer_mount "$peer" b "$T/b" || return 1
        timed "$FILES" "${UNTIL[@]}" -- "$@"
    elif [ "$peer" = rclone-copy ]; then
        timed "$FILES" "${UNTIL[@]}" -- $(rclone_copy "$T/tree" "$(rclone_at b tree)")
    elif [ "$peer" = aws-cp ]; then
        timed "$FILES" "${UNTIL[@]}" -- $(aws_at b) "$T/tree" s3://dst/tree
    else
        return 2
    fi
    same_objects dst
}
row_up() { _up "$1" cp -r "$T/tree" "$T/b/"; }
row_rsync_up() { is_mount "$1" || return 2; _up "$1" rsync -a "$T/tree" "$T/b/"; }

_down() {
    local peer=$1
    shift
    write_peer_conf src dst
    rm -rf "$T/back"
    mkdir "$T/back"
    if is_mount "$peer"; then
        peer_mount "$peer" a "$T/a" || return 1
        timed "$FILES" --count "$T/back" -- "$@"
    elif [ "$peer" = rclone-copy ]; then
        timed "$FILES" --count "$T/back" -- $(rclone_copy "$(rclone_at a tree)" "$T/back/tree")
    elif [ "$peer" = aws-cp ]; then
        timed "$FILES" --count "$T/back" -- $(aws_at a) s3://src/tree "$T/back/tree"
    else
        return 2
    fi
    same_files "$T/back/tree"
    rm -rf "$T/back"
}
row_down() { _down "$1" cp -r "$T/a/tree" "$T/back/"; }
row_rsync_down() { is_mount "$1" || return 2; _down "$1" rsync -a "$T/a/tree" "$T/back/"; }

# Nothing has changed. What is there was written by objmig, in the names of attributes rclone and s3fs use; each run sees it with a
# new mount, ours with its journal of then (which knows the provider by its endpoint: the same delay, the same port).
row_rsync_again() {
    local peer=$1
    write_peer_conf src again
    if [ ! -d "$T/again" ]; then
        s3fast_ctl POST 'fill?bucket=again&prefix=x&files=0' >/dev/null
        peer_mount objmig b "$T/b" && rsync -a "$T/tree" "$T/b/" && objmig wait -q "$T/b" || return 1
        umount "$T/b"
        within 10 test ! -d "/proc/${DAEMONS[0]}" && cp -a "$CACHE" "$T/again" || return 1
        peer_unmount
    fi
    if is_mount "$peer"; then
        [ "$peer" != objmig ] || cp -a "$T/again" "$CACHE"
        peer_mount "$peer" b "$T/b" || return 1
        timed "$FILES" -- rsync -a "$T/tree" "$T/b/"
    elif [ "$peer" = rclone-copy ]; then
        timed "$FILES" -- $(rclone_copy "$T/tree" "$(rclone_at b tree)")
    else
        return 2
    fi
    same_objects again
}

row_big_read() {
    local peer=$1 auth
    write_peer_conf src dst
    if is_mount "$peer"; then
        peer_mount "$peer" a "$T/a" || return 1
        timed 1 -- dd if="$T/a/big/f000000" of=/dev/null bs=1M status=none
    elif [ "$peer" = rclone-copy ]; then
        timed 1 -- bash -c "rclone cat '$(rclone_at a big/f000000)' >/dev/null"
    elif [ "$peer" = curl-16 ]; then
        auth="--aws-sigv4 aws:amz:$S3FAST_REGION:s3 --user $S3FAST_ACCESS_KEY:$S3FAST_SECRET_KEY -H x-amz-content-sha256:UNSIGNED-PAYLOAD"
        timed 1 -- bash -c "seq 0 15 | xargs -P 16 -I{} bash -c 'curl -sS --fail --noproxy \"*\" -o /dev/null $auth \
            -r \$(({} * $BIG / 16))-\$((({} + 1) * $BIG / 16 - 1)) http://127.0.0.1:$(side_port a)/src/big/f000000'"
    else
        return 2
    fi
}

row_big_write() {
    local peer=$1
    write_peer_conf src dst
    s3fast_ctl POST 'clear?bucket=dst' >/dev/null
    UNTIL=(--until "$(count_url dst big)=>1 $BIG ")
    [ "$peer" != objmig ] || UNTIL+=(--then "objmig wait -q $T/b")
    if is_mount "$peer"; then
        peer_mount "$peer" b "$T/b" || return 1
        timed 1 "${UNTIL[@]}" -- cp "$T/big" "$T/b/big"
    elif [ "$peer" = rclone-copy ]; then
        timed 1 "${UNTIL[@]}" -- rclone copyto "$T/big" "$(rclone_at b big)"
    else
        return 2
    fi
    big_arrived
}
big_arrived() {
    [ "$R_RC" = 0 ] || return 0
    [ "$(s3fast_ctl GET 'sum?bucket=dst&prefix=big' | cut -d' ' -f2)" = "$BIG" ] || wrong "the object has another size"
}

row_big_copy() {
    local peer=$1
    write_peer_conf src dst
    s3fast_ctl POST 'clear?bucket=dst' >/dev/null
    UNTIL=(--until "$(count_url dst big)=>1 $BIG ")
    [ "$peer" != objmig ] || UNTIL+=(--then "objmig wait -q $T/b")
    if is_mount "$peer"; then
        peer_mount "$peer" a "$T/a" && peer_mount "$peer" b "$T/b" || return 1
        timed 1 "${UNTIL[@]}" -- cp "$T/a/big/f000000" "$T/b/big"
    elif [ "$peer" = rclone-copy ]; then
        timed 1 "${UNTIL[@]}" -- rclone copyto "$(rclone_at a big/f000000)" "$(rclone_at b big)"
    else
        return 2
    fi
    big_arrived
}

# _lists PEER BUCKET WANT COMMAND: COMMAND is given the mount's directory; the number of names must be right.
_lists() {
    local peer=$1 bucket=$2 want=$3 in_mount=$4 got
    write_peer_conf "$bucket" dst
    if is_mount "$peer"; then
        peer_mount "$peer" a "$T/a" || return 1
        timed "$want" -- bash -c "$in_mount '$T/a' >'$T/listed'"
    elif [ "$peer" = rclone-copy ]; then
        timed "$want" -- bash -c "rclone lsf -R --files-only a:$bucket >'$T/listed'"
    else
        return 2
    fi
    got=$(grep -c '/*f[0-9]*$' "$T/listed")
    [ "$R_RC" != 0 ] || [ "$got" = "$want" ] || wrong "$got names, not $want"
}
row_find() { _lists "$1" many $((FIND_DIRS * 1000)) find; }
row_ls() { _lists "$1" flat "$LS_FILES" 'ls -f'; }
