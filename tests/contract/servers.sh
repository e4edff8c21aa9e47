#!/bin/bash
# The contract suite against servers: Ceph RGW for s3, in both signature versions and list types; the servers of COS, OSS and KS3 (both
# signatures each; path style too), of GCS (both kinds of credentials), BOS, Upyun and Qiniu (by its hosts with a private domain, and as
# a private cloud's one host with a public one); Azurite with SharedKey and with a SAS; s3fast as a compatible server (with and without
# conditions, both list types) and as AWS itself (virtual host, its own quirks); nginx, with and without ranges and what else web
# servers do, for http.
# timeout: 600
. "$(dirname "$0")/../lib/lib.sh"

need_rgw
[ -n "${COS_PORT:-}" ] || start_cos
conf_s3 s3 "$(new_bucket)"
conf_s3 s3-old "$(new_bucket)" signatureVersion=v2 listVersion=1
conf_cos cos
start_oss
conf_oss oss
conf_oss oss-v1 signatureVersion=v1
conf_oss oss-path "endPoint=$OSS_ENDPOINT"
start_ks3
conf_ks3 ks3
conf_ks3 ks3-v4 signatureVersion=v4
conf_ks3 ks3-path "endPoint=$KS3_ENDPOINT"
start_azure
conf_azure azure
conf_azure azure-sas accessKeySecret= "sasToken=$AZURE_SAS"
start_upyun --page 3 --parts-page 2
conf_upyun upyun
start_s3fast --bucket one --bucket two --bucket three
conf_s3fast s3fast one conditionalWrites=on
conf_s3fast s3fast-v1 two listVersion=1
start_gcs --bucket one --bucket two
conf_gcs gcs
conf_gcs_account gcs-account bucket=two
start_bos --bucket one --bucket two --cred testAccessKeyId:testSecretKeyForTestsOnly \
    --cred temporaryId:temporarySecret:the/token+1==
conf_bos bos conditionalWrites=on
conf_bos bos-token bucket=two pathStyle=on accessKeyId=temporaryId accessKeySecret=temporarySecret 'securityToken=the/token+1=='
conf_s3fast s3fast-aws three endPoint=s3.us-east-1.amazonaws.com "connectTo=127.0.0.1:$S3FAST_PORT" pathStyle=off
start_qiniu
conf_qiniu qiniu
conf_qiniu qiniu-one "endPoint=$QINIU_ONE_HOST" "domain=$QINIU_OPEN_DOMAIN" domainPrivate=off

# Lists of URLs can only be read: what they show is made here.
python3 "$TESTS_DIR/lib/web_tree.py" "$T/seed" || die "no tree"
start_nginx "$T/seed"
web() { conf_http "web-$1" "$T/web-$1.urls" smallFileExecutorNum=16 "${@:2}"; }
url_list "$T/seed" "http://127.0.0.1:$WEB_PORT" >"$T/web-plain.urls"
for kind in norange nohead getonly noetag meta r301 r307 r308 far; do
    url_list "$T/seed" "http://127.0.0.1:$WEB_PORT/$kind" --manifest >"$T/web-$kind.urls"
    web $kind
done
mkdir "$T/web-lists.urls" # several lists and hosts, and a password
url_list "$T/seed/names" "http://127.0.0.1:$WEB_PORT2/auth/names" --manifest | sed '2,$s/^"*/&names\//' >"$T/web-lists.urls/1 names.csv"
url_list "$T/seed" "http://$WEB_USER:pass%3Aword@127.0.0.1:$WEB_PORT/auth" --manifest | grep -v '^"*names/' >"$T/web-lists.urls/2.csv"
web lists "accessKeyId=$WEB_USER" "accessKeySecret=$WEB_PASSWORD"
web plain

# The program prints TAP itself.
OBJMIG_CONTRACT_SEED=$T/seed CMOCKA_MESSAGE_OUTPUT=TAP OBJMIG_CONTRACT_CONF=$CONF "$OBJMIG_BUILD/tests/contract/contract"
rc=$?
FINISHED=yes
exit $rc
