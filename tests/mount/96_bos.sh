#!/bin/bash
# Baidu BOS in both directions, killed in the middle, throttled, refused, archived; with temporary keys, too.
# timeout: 300
. "$(dirname "$0")/../lib/lib.sh"
. "$TESTS_DIR/lib/provider_rest.sh"
need_fuse
start_bos --bucket one --bucket two --cred testAccessKeyId:testSecretKeyForTestsOnly --cred temporaryId:temporarySecret:the/token+1==
NAME=bos OBJECTS=one REQUESTS=$BOS_LOG CONTROL=$BOS_CONTROL SECRETS="$BOS_SECRET_KEY temporarySecret the/token"
conf() { conf_bos "$@"; }

provider_tree
provider_both_ways
provider_killed
provider_faults

# ---- what only Baidu has

server_put frozen "$NAS/src/plain/file 2.txt" -H 'x-bce-storage-class: ARCHIVE'
ok "a new cache" fresh_mount
nok "an archived object cannot be read" cat "$MNT/cloud/frozen"
ok "and the log says what to do" grep -q "key=frozen .*the object is archived (ARCHIVE): restore it first" "$LOG"

refused "wrong secret" "\[r\].*accessKeySecret" accessKeySecret=wrongSecret
refused "wrong key" "\[r\].*accessKeyId" accessKeyId=NOBODY
refused "missing bucket" "\[r\].*bucket" bucket=missing
refused "no server" "\[r\].*(connect|server)" connectTo=127.0.0.1:1 requestTryCount=2
temporary=(accessKeyId=temporaryId accessKeySecret=temporarySecret bucket=two)
refused "a wrong token" "\[r\].*securityToken" "${temporary[@]}" securityToken=wrong
refused "no token" "\[r\].*securityToken" "${temporary[@]}"

conf token "${temporary[@]}" 'securityToken=the/token+1=='
ok "mount with temporary keys" mount_objmig token "$T/token"
_ctl "$CONTROL" POST clock '{"offset_s":7200}' >/dev/null
ok "cp while the clocks differ" cp -r "$NAS/src/plain" "$T/token/"
ok "wait" timeout 120 objmig wait -q "$T/token"
_ctl "$CONTROL" POST clock '{"offset_s":0}' >/dev/null
OBJECTS=two
ok "every object" at_server "$NAS/src/plain" plain/
done_testing
