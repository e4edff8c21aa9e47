#!/bin/bash
# timeout: 400
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

# ---- seeding

is "what Ceph refuses" "$(odd put s3 "$BUCKET" | sort)" $'%ED%95 InvalidObjectName\nbytes%FF%FE InvalidObjectName'
is "what COS refuses" "$(odd put cos other-1250000000 | sed 's/k*k k/k k/;s/^k*/k/' | sort)" \
    $'%ED%95 InvalidURI\nbytes%FF%FE InvalidURI\nescape%1B InvalidArgument\nk KeyTooLong'
odd expect | grep -v '%FF%FE\|^%ED%95 ' >"$T/held.s3"
grep -v '^escape%1B \|^k*/k*/' "$T/held.s3" >"$T/held.cos"
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
while read -r path key; do
    is "cat $path" "$(cat "$S3/$path")" "the bytes of $key"
done <<'END'
a/^2F/b a//b
^2F/lead /lead
^2E ^2E
x/^2E./y x/../y
dir^2F dir
dir/^2F dir/
dir/sub^2F dir/sub
%2F %2F
* *
^5E2F ^2F
tab^09here ^09
END
is "names in one directory, once each" "$(ls -1 "$S3/long" | sort | uniq -d)" ''

SINCE=$(req_mark "$COS_LOG")
is "$MANY keys in one directory" "$(ls -f "$COS/many" | grep -c '^[0-9]')" $MANY
at_most "$MANY keys: by pages of 1,000" "$(SINCE=$SINCE req_count "$COS_LOG" GET)" $((MANY / 1000 + 2))
is "$MANY keys with attributes" "$(find "$COS/many" -type f -size -2 | wc -l)" $MANY
at_most "$MANY keys: a request for none of them" "$(SINCE=$SINCE req_count "$COS_LOG" HEAD)" 5

# ---- S3 -> COS

mkdir "$COS/in"
cp -r "$S3/." "$COS/in/" 2>"$T/cp.err"
is "S3 -> COS: cp says that not all could go" $? 1
is "S3 -> COS: it names those COS takes no object of" "$(sed "s|.*$COS/in/||;s|/k*||g" "$T/cp.err" | sort)" \
    $'escape^1B\': Invalid argument\nkkk'
ok "S3 -> COS: objmig wait" timeout 120 objmig wait -q "$COS"
sed 's/^/in\//' "$T/held.cos" >"$T/want"
odd list cos test-1250000000 | grep -v ' 0 d41d8cd98f00b204e9800998ecf8427e$' | grep '^in/' >"$T/list"
same "S3 -> COS: the same keys" "$T/want" "$T/list"
odd walk "$COS/in" >"$T/walk"
same "S3 -> COS: as the mount shows them" "$T/want" "$T/walk"

done_testing
