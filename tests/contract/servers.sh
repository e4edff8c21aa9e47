#!/bin/bash
# The contract suite against servers: Ceph RGW for s3, in both signature versions and list types, the servers of COS, GCS and BOS, and s3fast as a
# compatible server (with and without conditions, both list types) and as AWS itself (virtual host, its own quirks).
# timeout: 500
. "$(dirname "$0")/../lib/lib.sh"

need_rgw
[ -n "${COS_PORT:-}" ] || start_cos
conf_s3 s3 "$(new_bucket)"
conf_s3 s3-old "$(new_bucket)" signatureVersion=v2 listVersion=1
conf_cos cos
start_s3fast --bucket one --bucket two --bucket three
conf_s3fast s3fast one conditionalWrites=on
conf_s3fast s3fast-v1 two listVersion=1
start_gcs --bucket one --bucket two
conf_gcs gcs
conf_gcs_account gcs-account bucket=two
start_bos --bucket one --bucket two --cred testAccessKeyId:testSecretKeyForTestsOnly --cred temporaryId:temporarySecret:the/token+1==
conf_bos bos conditionalWrites=on
conf_bos bos-token bucket=two accessKeyId=temporaryId accessKeySecret=temporarySecret 'securityToken=the/token+1==' pathStyle=on
conf_s3fast s3fast-aws three endPoint=s3.us-east-1.amazonaws.com "connectTo=127.0.0.1:$S3FAST_PORT" pathStyle=off

# The program prints TAP itself.
CMOCKA_MESSAGE_OUTPUT=TAP OBJMIG_CONTRACT_CONF=$CONF "$OBJMIG_BUILD/tests/contract/contract"
rc=$?
FINISHED=yes
exit $rc
