#!/bin/bash
# The server of one remote hangs, and more is being read ahead from it than the kernel lets be outstanding in one mount: the other
# remotes of the daemon do not notice (F2).
# timeout: 400
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
start_cos
conf_cos far bigFileUploadPartSize=8M
conf_local near "$T/bucket"
F=$T/far N=$T/near
FILES=40
SIZE=$((48 << 20))
make_file "$T/x" $SIZE 1
make_file "$T/bucket/y" $((6 << 20)) 2
make_file "$T/bucket/z" $((6 << 20)) 3
minor() { awk -v d="$1" '$5 == d { split($3, n, ":"); print n[2] }' /proc/self/mountinfo; }

ok "mount" mount_objmig far "$F"
cp "$T/x" "$F/x"
ok "something is at the provider" objmig wait -q "$F" --timeout=300
for n in $(seq $FILES); do cp "$F/x" "$F/f$n"; done
ok "so are its copies" objmig wait -q "$F" --timeout=300
ok "umount" umount_objmig "$F"
ok "the daemon goes" daemon_gone
rm -rf "$CACHE"

ok "mount one remote, with nothing in the cache" mount_objmig far "$F"
ok "and another in the same daemon" mount_objmig near "$N"
is "that is one connection" "$(minor "$F")" "$(minor "$N")"
cos_fault '{"op":"GetObject","action":"hold","count":0}'
python3 - "$F" "$T/x" $FILES >"$T/readers" 2>&1 <<'END' &
import os, sys, threading
top, like, files = sys.argv[1], sys.argv[2], int(sys.argv[3])
want = open(like, 'rb').read()
wrong = []
asked = threading.Barrier(files, lambda: print('asked', flush=True))
def reader(n):
    try:
        fd = os.open(f'{top}/f{n}', os.O_RDONLY)
        for off in range(0, len(want), 4 << 20):
            os.posix_fadvise(fd, off, 4 << 20, os.POSIX_FADV_WILLNEED)
        asked.wait()
        for off in range(0, len(want), 5 << 20):
            if os.pread(fd, 300000, off) != want[off:off + 300000]:
                wrong.append(f'f{n} at {off}')
        os.close(fd)
    except OSError as e:
        wrong.append(f'f{n}: {e}')
readers = [threading.Thread(target=reader, args=(n + 1,)) for n in range(files)]
for r in readers: r.start()
for r in readers: r.join()
print('\n'.join(wrong) or 'all right')
END
readers=$!
asked() { grep -q asked "$T/readers"; }
ok "more is asked for than the kernel lets be outstanding" within 60 asked
ok "the other remote is read" timeout 60 cmp "$N/y" "$T/bucket/y"
ok "by another reader, too" timeout 60 cmp "$N/z" "$T/bucket/z"
ok "and listed" timeout 60 ls -l "$N"
ok "and written" timeout 60 cp "$T/bucket/y" "$N/written"
ok "which arrives: its close came to the daemon" timeout 60 objmig wait -q "$N"
cos_ctl DELETE faults >/dev/null
ok "who read the hung one goes on" within 120 bash -c "! kill -0 $readers"
is "and none of them saw anything wrong" "$(tail -n 1 "$T/readers")" "all right"
done_testing
