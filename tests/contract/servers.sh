#!/bin/bash
# The contract suite against servers: Ceph RGW for s3, in both signature versions and list types, the COS server, and s3fast as a
# compatible server (with and without conditions, both list types) and as AWS itself (virtual host, its own quirks); the Qiniu server
# by its hosts with a private domain, and as a private cloud's one host with a public one.
# timeout: 300
. "$(dirname "$0")/../lib/lib.sh"

need_rgw
[ -n "${COS_PORT:-}" ] || start_cos
conf_s3 s3 "$(new_bucket)"
conf_s3 s3-old "$(new_bucket)" signatureVersion=v2 listVersion=1
conf_cos cos
start_s3fast --bucket one --bucket two --bucket three
conf_s3fast s3fast one conditionalWrites=on
conf_s3fast s3fast-v1 two listVersion=1
conf_s3fast s3fast-aws three endPoint=s3.us-east-1.amazonaws.com "connectTo=127.0.0.1:$S3FAST_PORT" pathStyle=off
start_qiniu
conf_qiniu qiniu
conf_qiniu qiniu-one "endPoint=$QINIU_ONE_HOST" "domain=$QINIU_OPEN_DOMAIN" domainPrivate=off

# The program prints TAP itself.
CMOCKA_MESSAGE_OUTPUT=TAP OBJMIG_CONTRACT_CONF=$CONF "$OBJMIG_BUILD/tests/contract/contract"
rc=$?
FINISHED=yes
exit $rc
