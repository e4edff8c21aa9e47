#!/bin/bash
# A spool of 64 MiB and many programs that write at once, together many times that: none of them hears of it (F1, C8).
# timeout: 400
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
start_cos
start_proxy "127.0.0.1:$COS_PORT" --delay 20
# What got lost on a slow machine is sent again after half a minute, not after five.
conf_cos cos "connectTo=127.0.0.1:$PROXY_PORT" requestTimeoutMs=30000
M=$T/mnt
make_file "$T/small" $((4 << 20)) 1
make_file "$T/large" $((40 << 20)) 2
ok "mount" mount_objmig cos "$M" cache_size=64M

# all_at_once NAME FILE COUNT: as many dd.
all_at_once() {
    local n pids=() failed=0
    for n in $(seq "$3"); do
        dd if="$2" of="$M/$1$n" bs=256K 2>>"$T/$1.err" &
        pids+=($!)
    done
    for n in "${pids[@]}"; do wait "$n" || failed=$((failed + 1)); done
    is "$3 writers of $(($(stat -c %s "$2") >> 20)) MiB each end well" "$failed" 0
    [ "$failed" = 0 ] || grep -v records "$T/$1.err" | grep -v copied | sort | uniq -c | head | sed 's/^/# /'
    ok "wait" objmig wait -q "$M" --timeout=300
    is "all of them arrived" "$(for n in $(seq "$3"); do cos_stat "$1$n" meta.md5; echo; done | grep . | sort | uniq -c | xargs)" \
        "$3 $(md5_of "$2")"
}
all_at_once small "$T/small" 100
all_at_once large "$T/large" 20
is "no upload is left behind" "$(cos_ctl GET uploads)" "[]"
ok "umount" umount_objmig "$M"
ok "the daemon goes" daemon_gone
done_testing
