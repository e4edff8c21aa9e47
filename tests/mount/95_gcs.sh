#!/bin/bash
# Google Cloud Storage in both directions, killed in the middle, throttled, refused; by HMAC key, and by service account.
# timeout: 300
. "$(dirname "$0")/../lib/lib.sh"
. "$TESTS_DIR/lib/provider_rest.sh"
need_fuse
start_gcs --bucket one --bucket two
NAME=gcs OBJECTS=one REQUESTS=$GCS_LOG CONTROL=$GCS_CONTROL SECRETS=$GCS_SECRET_KEY
conf() { conf_gcs "$@"; }

provider_tree
provider_both_ways
provider_killed
provider_faults

# ---- what only Google has

gzip -c "$NAS/src/three parts.bin" >"$T/packed.gz"
server_put packed "$T/packed.gz" -H 'Content-Encoding: gzip'
server_put damaged "$NAS/src/한국어 폴더/안녕.txt"
ok "a new cache" fresh_mount
ok "an object of Content-Encoding gzip arrives as it is stored" cmp "$T/packed.gz" "$MNT/cloud/packed"
server_fault '{"op":"GetObject","key":"^damaged$","action":"corrupt","offset":1}'
ok "a damaged answer is noticed by its CRC32C, and read again" cmp "$NAS/src/한국어 폴더/안녕.txt" "$MNT/cloud/damaged"
is "in two requests" "$(grep -c '"op":"GetObject".*"key":"damaged"' "$GCS_LOG")" 2
nok "a name with a line break is refused" touch "$MNT/cloud/line"$'\n'"break"

refused "wrong secret" "\[r\].*accessKeySecret" accessKeySecret=wrongSecret
refused "wrong key" "\[r\].*accessKeyId" accessKeyId=NOBODY
refused "missing bucket" "\[r\].*bucket" bucket=missing
refused "no server" "\[r\].*(connect|server)" connectTo=127.0.0.1:1 requestTryCount=2

# ---- a service account

conf() { conf_gcs_account "$@"; }
sed 's/tests@test/other@test/' "$GCS_SERVICE_ACCOUNT" >"$T/other.json"
refused "another account" "\[r\].*serviceAccountFile" "serviceAccountFile=$T/other.json"
sed 's/PRIVATE KEY-----\\n..../&AAAA/' "$GCS_SERVICE_ACCOUNT" >"$T/broken.json"
refused "a broken key" "\[r\] serviceAccountFile.*no RSA key" "serviceAccountFile=$T/broken.json"
conf account bucket=two
ok "mount by service account" mount_objmig account "$T/account"
_ctl "$CONTROL" POST clock '{"offset_s":-7200}' >/dev/null
ok "cp while the clocks differ" cp -r "$NAS/src/plain" "$T/account/"
ok "wait" timeout 120 objmig wait -q "$T/account"
_ctl "$CONTROL" POST clock '{"offset_s":0}' >/dev/null
OBJECTS=two
ok "every object" at_server "$NAS/src/plain" plain/
done_testing
