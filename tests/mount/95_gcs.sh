#!/bin/bash
# Google Cloud Storage with real mounts: by HMAC key, and by service account.
# timeout: 300
. "$(dirname "$0")/../lib/lib.sh"
. "$TESTS_DIR/lib/provider.sh"
provider_begin gcs --bucket one --bucket two
provider_refusals
provider_copies
provider_trouble
provider_checksums
provider_killed

# ---- what only Google has

gzip -c "$T/tree/big/threshold" >"$T/packed.gz"
echo damaged >"$T/damaged"
provider_put packed "$T/packed.gz" -H 'Content-Encoding: gzip'
provider_put damaged "$T/damaged"
provider_fresh
ok "an object of Content-Encoding gzip arrives as it is stored" cmp "$T/packed.gz" "$M/packed"
SINCE=$(req_mark "$STORE_LOG")
store_fault GCS '{"op":"GetObject","key":"^damaged$","action":"corrupt","offset":1}'
ok "a damaged answer is noticed by its CRC32C, and read again" cmp "$T/damaged" "$M/damaged"
is "in two requests" "$(req_count "$STORE_LOG" GET GetObject)" 2
nok "a name with a line break is refused" touch "$M/line"$'\n'"break"

# ---- a service account

CREDENTIALS=gcs_account
sed 's/tests@test/other@test/' "$GCS_SERVICE_ACCOUNT" >"$T/other.json"
provider_refused "another account" serviceAccountFile "serviceAccountFile=$T/other.json"
sed 's/PRIVATE KEY-----\\n..../&AAAA/' "$GCS_SERVICE_ACCOUNT" >"$T/broken.json"
provider_refused "a broken key" "serviceAccountFile.*no RSA key" "serviceAccountFile=$T/broken.json"
provider_conf account bucket=two
ok "mount by service account" mount_objmig account "$T/account"
store_ctl GCS POST clock '{"offset_s":-7200}' >/dev/null
ok "cp, two hours ahead of the server" cp -r "$T/tree/many" "$T/account/"
ok "wait" timeout 120 objmig wait -q "$T/account"
store_ctl GCS POST clock '{"offset_s":0}' >/dev/null
ok "every object" provider_check "$T/tree/many" many/ two
umount_objmig "$T/account"
provider_end
done_testing
