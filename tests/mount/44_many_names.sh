#!/bin/bash
# A directory with more names than inodes are kept for (rules F8): each is there, each is answered from the listing, and memory stays
# bounded.
# timeout: 240
. "$(dirname "$0")/../lib/lib.sh"
need_fuse
start_s3fast
BUCKET=many NAMES=230000
s3fast_ctl POST "fill?bucket=$BUCKET&prefix=d/&dirs=0&files=$NAMES&size=3" >/dev/null || die "the bucket is not filled"
conf_s3fast many $BUCKET
ok "mount" mount_objmig many "$T/m" list_ttl=3600,attr=list
requests() { s3fast_ctl GET stats | python3 -c 'import json, sys; print(json.load(sys.stdin)["requests"])'; }
kib() { awk -v f="$1:" '$1 == f { print $2 }' "/proc/$(daemon_pids)/status"; }

BEFORE=$(kib VmRSS)
python3 - "$T/m/d" "$T/names" <<'END'
import os, sys
with open(sys.argv[2], 'w') as out:
    for name in os.listdir(sys.argv[1]):
        out.write(name + '\n')
END
is "every name is listed, once" "$(sort -u "$T/names" | wc -l) $(wc -l <"$T/names")" "$NAMES $NAMES"
LISTED=$(requests)
at_most "requests: pages of a thousand names" "$LISTED" $((NAMES / 1000 + 20))
# The last come after the budget was spent: the kernel has no inode of them, and asks for each.
is "the names beyond the budget are answered" "$(cd "$T/m/d" && tail -n 10000 "$T/names" | xargs stat -c '%s %F' | sort | uniq -c | xargs)" \
    "10000 3 regular file"
nok "one that is not listed is not there" stat "$T/m/d/no such name"
is "and none of them asks the provider" "$(requests)" "$LISTED"
is "what is beyond it can be read" "$(tail -n 1 "$T/names" | (cd "$T/m/d" && xargs cat) | wc -c)" 3
if [ -n "${OBJMIG_SANITIZED:-}" ]; then
    skip "the daemon's memory" "the sanitizer's own memory counts"
else
    at_most "memory for it (KiB)" $(($(kib VmHWM) - BEFORE)) $((160 << 10))
fi
ok "umount" umount_objmig "$T/m"
ok "the daemon ends" daemon_gone
done_testing
