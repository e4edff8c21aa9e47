#!/bin/bash
# The contract suite against servers: Ceph RGW for s3, in both signature versions and list types, the COS and Upyun servers, and s3fast as a
# compatible server (with and without conditions, both list types) and as AWS itself (virtual host, its own quirks).
# timeout: 300
. "$(dirname "$0")/../lib/lib.sh"

need_rgw
[ -n "${COS_PORT:-}" ] || start_cos
conf_s3 s3 "$(new_bucket)"
conf_s3 s3-old "$(new_bucket)" signatureVersion=v2 listVersion=1
conf_cos cos
start_upyun --page 3 --parts-page 2
conf_upyun upyun
start_s3fast --bucket one --bucket two --bucket three
conf_s3fast s3fast one conditionalWrites=on
conf_s3fast s3fast-v1 two listVersion=1
conf_s3fast s3fast-aws three endPoint=s3.us-east-1.amazonaws.com "connectTo=127.0.0.1:$S3FAST_PORT" pathStyle=off

# The program prints TAP itself.
CMOCKA_MESSAGE_OUTPUT=TAP OBJMIG_CONTRACT_CONF=$CONF "$OBJMIG_BUILD/tests/contract/contract"
rc=$?
FINISHED=yes
exit $rc
