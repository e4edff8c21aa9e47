#!/bin/bash
# Baidu BOS with real mounts: by permanent and by temporary keys.
# timeout: 300
. "$(dirname "$0")/../lib/lib.sh"
. "$TESTS_DIR/lib/provider.sh"
provider_begin bos --bucket one --bucket two --cred testAccessKeyId:testSecretKeyForTestsOnly \
    --cred temporaryId:temporarySecret:the/token+1==
provider_freeze ARCHIVE
provider_refusals
provider_copies
provider_trouble
provider_checksums
provider_frozen ARCHIVE
provider_killed

temporary=(bucket=two accessKeyId=temporaryId accessKeySecret=temporarySecret)
SECRETS+=(temporarySecret the/token)
provider_refused "a wrong token" securityToken "${temporary[@]}" securityToken=wrong
provider_refused "no token" securityToken "${temporary[@]}"
provider_conf token "${temporary[@]}" 'securityToken=the/token+1=='
ok "mount by temporary keys" mount_objmig token "$T/token"
ok "cp" cp -r "$T/tree/many" "$T/token/"
ok "wait" timeout 120 objmig wait -q "$T/token"
ok "every object" provider_check "$T/tree/many" many/ two
umount_objmig "$T/token"
provider_end
done_testing
