#!/bin/bash
# The S3 server of the bench: what it must refuse, against signatures made by curl; ranges and pages; the delay; the clients people
# use, where they are installed.
# timeout: 240
. "$(dirname "$0")/../lib/lib.sh"

start_s3fast --listen 0:200 --bucket b --bucket c
read -r _ SLOW_PORT <<<"$S3FAST_PORTS"

# req METHOD PATH [curl option …]: the status of one signed request; the answer is in $T/got, its head in $T/head.
req() {
    local method=$1 path=$2
    shift 2
    curl -sS --noproxy '*' --path-as-is -m 10 $([ "$method" = HEAD ] && echo -I || echo "-X $method") -D "$T/head" -o "$T/got" \
        -w '%{http_code}' --aws-sigv4 "aws:amz:${REGION:-us-east-1}:s3" --user "${ID:-$S3FAST_ACCESS_KEY}:${SECRET:-$S3FAST_SECRET_KEY}" \
        -H "x-amz-content-sha256: ${HASH:-UNSIGNED-PAYLOAD}" "$@" "http://127.0.0.1:${PORT:-$S3FAST_PORT}$path"
}
code() { sed -n 's/.*<Code>\(.*\)<\/Code>.*/\1/p' "$T/got"; }
head_of() { sed -n "s/^$1: \(.*\)\r/\1/Ip" "$T/head"; }
# refused NAME CODE request …
refused() {
    local name=$1 want=$2
    shift 2
    req "$@" >/dev/null
    is "$name" "$(code)" "$want"
}

make_file "$T/f" 100000
is "put" "$(HASH=$(sha256sum <"$T/f" | cut -c1-64) req PUT /b/f -T "$T/f")" 200
is "its etag" "$(head_of etag)" "\"$(md5_of "$T/f")\""
is "get" "$(req GET /b/f)" 200
ok "its bytes" cmp "$T/f" "$T/got"
is "a range" "$(req GET /b/f -H 'Range: bytes=99990-')" 206
ok "its bytes" cmp "$T/got" <(tail -c 10 "$T/f")
is "a range behind the end" "$(req GET /b/f -H 'Range: bytes=100000-')" 416
is "head" "$(req HEAD /b/f)" 200
is "says the length" "$(head_of content-length)" 100000

SECRET=wrong refused "a wrong secret" SignatureDoesNotMatch GET /b/f
ID=nobody refused "a wrong key" InvalidAccessKeyId GET /b/f
REGION=eu-west-1 refused "a wrong region" AuthorizationHeaderMalformed GET /b/f
HASH=$(printf 0%.0s {1..64}) refused "another body than the signed one" XAmzContentSHA256Mismatch PUT /b/g -T "$T/f"
refused "another MD5" BadDigest PUT /b/g -T "$T/f" -H "Content-MD5: $(printf x | openssl md5 -binary | base64)"
refused "an old date" RequestTimeTooSkewed GET /b/f -H "X-Amz-Date: 20200101T000000Z"
refused "an absent bucket" NoSuchBucket GET /nothing/f
refused "an absent key" NoSuchKey GET /b/nothing
refused "what it does not have" NotImplemented GET '/b/f?acl='
curl -sS --noproxy '*' -o "$T/got" "$S3FAST_ENDPOINT/b/f"
is "no signature" "$(code)" AccessDenied
is "nothing of that was stored" "$(s3fast_ctl GET 'sum?bucket=b' | cut -d' ' -f1,2)" '1 100000'

# ---- pages, counters
s3fast_ctl POST 'fill?bucket=c&prefix=p/&dirs=3&files=1500&size=10' >/dev/null
s3fast_ctl POST reset >/dev/null
is "a page" "$(req GET '/c?list-type=2&prefix=p%2F')" 200
is "has 1000 keys" "$(grep -o '<Key>' "$T/got" | wc -l)" 1000
matches "and goes on" "$(cat "$T/got")" '<IsTruncated>true</IsTruncated>.*<NextContinuationToken>'
req GET '/c?delimiter=%2F&list-type=2&prefix=p%2F' >/dev/null
is "folders" "$(grep -o '<CommonPrefixes>' "$T/got" | wc -l)" 3
is "counted by kind" "$(s3fast_ctl GET stats | python3 -c 'import json, sys
s = json.load(sys.stdin); print(s["kinds"]["ListObjectsV2"]["n"], s["requests"], s["connections"] > 1)')" '2 2 True'

# ---- the delayed port: a handshake and a request are two round trips, each further request one
PORT=$SLOW_PORT
s3fast_ctl POST reset >/dev/null
took() { awk '{ printf "%d", $1 * 1000 }'; }
ms=$(req GET /b/f -w '%{time_total}\n' | sed 's/^200//' | tail -n 1 | took)
at_least "a first request takes two round trips (ms)" "$ms" 400
# By the server's own count: how long all else takes is the machine's affair.
delayed() { s3fast_ctl GET stats | python3 -c 'import json, sys; print(json.load(sys.stdin)["delay_us"])'; }
at_most "and not three (us)" "$(delayed)" 400000
s3fast_ctl POST reset >/dev/null
ms=$(curl -sS --noproxy '*' -o "$T/got" -o "$T/got" -w '%{time_total}\n' --aws-sigv4 aws:amz:us-east-1:s3 --user "$S3FAST_ACCESS_KEY:$S3FAST_SECRET_KEY" \
    -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "http://127.0.0.1:$PORT/b/f" "http://127.0.0.1:$PORT/b/f" | tail -n 1 | took)
at_least "the next one takes one (ms)" "$ms" 200
at_most "and not two: both together three (us)" "$(delayed)" 600000

# ---- other people's clients
mkdir -p "$T/tree/한글 +%41"
for i in 1 2 3; do make_file "$T/tree/한글 +%41/f $i" $((i * 10000)); done
make_file "$T/tree/parts" 20000000
: >"$T/tree/empty"
unset AWS_CA_BUNDLE # an older rclone does not take one
export AWS_ACCESS_KEY_ID=$S3FAST_ACCESS_KEY AWS_SECRET_ACCESS_KEY=$S3FAST_SECRET_KEY AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
if command -v rclone >/dev/null; then
    remote=":s3,provider=Other,env_auth=true,region=us-east-1,no_check_bucket=true,endpoint='$S3FAST_ENDPOINT':"
    ok "rclone copies there" rclone --config /dev/null copy "$T/tree" "${remote}b/rclone"
    ok "rclone copies back" rclone --config /dev/null copy "${remote}b/rclone" "$T/rclone"
    ok "rclone: the same" diff -r "$T/tree" "$T/rclone"
else
    skip "rclone" "not installed"
fi
if command -v aws >/dev/null && aws --version >/dev/null 2>&1; then
    aws() { command aws --endpoint-url "$S3FAST_ENDPOINT" "$@"; }
    ok "aws copies there" aws s3 cp --recursive --only-show-errors "$T/tree" s3://b/aws
    ok "aws copies inside" aws s3 cp --recursive --only-show-errors s3://b/aws s3://c/aws
    ok "aws copies back" aws s3 cp --recursive --only-show-errors s3://c/aws "$T/aws"
    ok "aws: the same" diff -r "$T/tree" "$T/aws"
else
    skip "aws" "not installed"
fi
done_testing
