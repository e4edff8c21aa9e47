# Who is measured: how each mounts, how each copies. Sourced by tools/bench after tests/lib/lib.sh.
#
# Two sides, a and b, are two endpoints of one server: to every client two providers, so that bytes must travel. DELAY is the
# round trip of both in ms, 0 or $RTT.

MOUNTS=(objmig rclone-writes rclone-full s3fs s3fs-cache)
COPIERS=(rclone-copy aws-cp curl-16 nullfs)
declare -a DAEMONS=()

is_mount() { [[ " ${MOUNTS[*]} " == *" $1 "* ]]; }

# side_port SIDE: PORTS holds a, b without delay, then a, b with it.
side_port() {
    local i=0
    [ "$1" = a ] || i=1
    [ "$DELAY" = 0 ] || i=$((i + 2))
    echo "${PORTS[i]}"
}

# write_peer_conf BUCKET_A BUCKET_B: what every client is to know, for the present DELAY.
write_peer_conf() {
    local side
    BUCKET[a]=$1 BUCKET[b]=$2
    rm -f "$CONF" "$T/rclone.conf"
    for side in a b; do
        S3FAST_ENDPOINT=http://127.0.0.1:$(side_port $side) conf_s3fast $side "${BUCKET[$side]}"
        cat >>"$T/rclone.conf" <<CONF
[$side]
type = s3
provider = Other
env_auth = true
region = $S3FAST_REGION
endpoint = http://127.0.0.1:$(side_port $side)
no_check_bucket = true
CONF
    done
    echo "$S3FAST_ACCESS_KEY:$S3FAST_SECRET_KEY" >"$T/passwd-s3fs"
    chmod 600 "$T/passwd-s3fs"
    export RCLONE_CONFIG=$T/rclone.conf AWS_ACCESS_KEY_ID=$S3FAST_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$S3FAST_SECRET_KEY
    export AWS_DEFAULT_REGION=$S3FAST_REGION AWS_EC2_METADATA_DISABLED=true
    unset AWS_CA_BUNDLE # an older rclone does not take one
}

# peer_mount PEER SIDE DIR
peer_mount() {
    local peer=$1 side=$2 dir=$3 more=()
    mkdir -p "$dir"
    case $peer in
        objmig) mount_objmig "$side" "$dir" "$OBJMIG_OPTIONS" ;;
        rclone-*)
            # Its uploads begin 5 s after close by default, and 4 at once: a second, as ours, and as many as rclone copy.
            rclone mount "$side:${BUCKET[$side]}" "$dir" --vfs-cache-mode "${peer#rclone-}" --cache-dir "$T/peer.$side" \
                --vfs-write-back 1s --transfers 64 --checkers 64 >>"$T/peer.out" 2>&1 &
            DAEMONS+=($!)
            disown # or bash tells of its end
            ;;
        s3fs*)
            [ "$peer" = s3fs ] || { mkdir -p "$T/peer.$side"; more=(-o "use_cache=$T/peer.$side"); }
            s3fs "${BUCKET[$side]}" "$dir" -f -o "url=http://127.0.0.1:$(side_port "$side")" -o use_path_request_style \
                -o "endpoint=$S3FAST_REGION" -o "passwd_file=$T/passwd-s3fs" "${more[@]}" >>"$T/peer.out" 2>&1 &
            DAEMONS+=($!)
            disown
            ;;
    esac
    within 20 mountpoint -q "$dir" || return 1
    [ "$peer" != objmig ] || DAEMONS=($(daemon_pids))
}

# peer_unmount: everything of the peer goes, finished or not.
peer_unmount() {
    local m pid
    for m in $(_mounts_below); do
        timeout 5 umount "$m" 2>/dev/null || umount -l "$m"
    done
    for pid in "${DAEMONS[@]}"; do
        # Ours ends by itself when it has nothing left to do; what was cut short ends here.
        [ "$R_RC" != 0 ] || within 5 test ! -d "/proc/$pid"
        kill -KILL "$pid" 2>/dev/null
        within 5 test ! -d "/proc/$pid"
    done
    DAEMONS=()
    # What the dead had asked for must not be done in the next one's time.
    within 20 server_is_idle
    rm -rf --one-file-system "$CACHE" "$T/peer.a" "$T/peer.b"
}

server_is_idle() { [[ $(s3fast_ctl GET stats) == *'"in_flight":0}'* ]]; }

# daemon_use: CPU seconds and the largest resident KiB of the daemons so far.
daemon_use() {
    local pid cpu=0 rss=0 v
    for pid in "${DAEMONS[@]}"; do
        v=$(awk '{ print $14 + $15 }' "/proc/$pid/stat" 2>/dev/null) && cpu=$((cpu + v))
        v=$(awk '/^VmHWM/ { print $2 }' "/proc/$pid/status" 2>/dev/null) && rss=$((rss + v))
    done
    echo "$cpu $rss"
}

# null_mount DIR: no peer, a limit. tree/ is there without its bytes.
null_mount() {
    mkdir -p "$1"
    "$OBJMIG_BUILD/tests/bench/nullfs" "$1" "$DIRS" "$PER_DIR" >>"$T/peer.out" 2>&1 &
    DAEMONS+=($!)
    disown
    within 20 mountpoint -q "$1" && mkdir "$1/b"
}

# Objects of SIDE as the copiers name them.
rclone_at() { echo "$1:${BUCKET[$1]}/$2"; }
rclone_copy() { echo rclone copy --transfers 64 --checkers 64 "$@"; }
aws_at() { echo "$aws --endpoint-url http://127.0.0.1:$(side_port "$1") s3 cp --recursive --only-show-errors"; }
