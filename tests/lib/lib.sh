# For mount and fault tests. A test is an executable bash script which begins with
#
#   . "$(dirname "$0")/../lib/lib.sh"
#
# runs checks, and ends with `done_testing`. It prints TAP. Everything it makes lives below $T; when it ends, however it
# ends, what is mounted below $T is unmounted, the processes it started (and no others) are gone, and $T is removed.
#
# Environment: OBJMIG_BUILD         the build directory (mount.objmig in fs/, objmig in tools/)
#              OBJMIG_NODE_MODULES  packages of the test servers
#              RGW_…                a running gateway (tools/test starts one for all tests); else need_rgw starts one
#              KEEP=1               leave $T behind
set -uo pipefail
shopt -s nullglob

TESTS_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
SERVERS_DIR=$TESTS_DIR/servers
: "${OBJMIG_BUILD:=$TESTS_DIR/../build/gcc}"
OBJMIG_BUILD=$(cd "$OBJMIG_BUILD" 2>/dev/null && pwd || echo "$OBJMIG_BUILD")
: "${OBJMIG_NODE_MODULES:=$OBJMIG_BUILD/../node/node_modules}"
export OBJMIG_BUILD OBJMIG_NODE_MODULES
export PATH=$OBJMIG_BUILD/fs:$OBJMIG_BUILD/tools:$PATH
export LC_ALL=C.UTF-8

# Short: a socket's path may have 107 bytes.
T=$(mktemp -d "${TMPDIR:-/tmp}/objmig.XXXXXX")
# By this the processes of this test are known again, whatever they do with their names and parents.
export OBJMIG_TEST_DIR=$T
CONF=$T/objmig.conf
CACHE=$T/cache
LOG=$T/objmig.log
# A daemon has no terminal to complain to.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}log_path=$T/sanitizer
export TSAN_OPTIONS=${TSAN_OPTIONS:+$TSAN_OPTIONS:}log_path=$T/sanitizer
export UBSAN_OPTIONS=${UBSAN_OPTIONS:+$UBSAN_OPTIONS:}log_path=$T/sanitizer
COUNT=0
FAILED=0
FINISHED=no

# ---- results

_result() {
    COUNT=$((COUNT + 1))
    [ "$1" = ok ] || FAILED=$((FAILED + 1))
    echo "$1 $COUNT - $2"
}

pass() { _result ok "$1"; }

# fail NAME [line of explanation …]
fail() {
    _result "not ok" "$1"
    shift
    local line
    for line in "$@"; do
        printf '%s\n' "$line" | sed 's/^/#   /'
    done
}

# skip NAME REASON
skip() {
    COUNT=$((COUNT + 1))
    echo "ok $COUNT - $1 # SKIP $2"
}

# skip_all REASON: the whole script cannot run here.
skip_all() {
    echo "1..0 # SKIP $1"
    FINISHED=yes
    exit 0
}

# ok NAME COMMAND …: passes when the command succeeds; its output is shown only when it does not.
ok() {
    local name=$1 out rc
    shift
    out=$("$@" 2>&1)
    rc=$?
    if [ $rc = 0 ]; then pass "$name"; else fail "$name" "$* -> $rc" "$(tail -n 20 <<<"$out")"; fi
    return $rc
}

# nok NAME COMMAND …: passes when it fails.
nok() {
    local name=$1 out
    shift
    if out=$("$@" 2>&1); then fail "$name" "$* succeeded" "$(tail -n 20 <<<"$out")"; else pass "$name"; fi
}

# is NAME GOT WANT
is() {
    if [ "$2" = "$3" ]; then pass "$1"; else fail "$1" "got  '$2'" "want '$3'"; fi
}

# at_most NAME GOT LIMIT; at_least NAME GOT LIMIT
at_most() {
    if [ "$2" -le "$3" ]; then pass "$1 ($2)"; else fail "$1" "got $2, at most $3 wanted"; fi
}
at_least() {
    if [ "$2" -ge "$3" ]; then pass "$1 ($2)"; else fail "$1" "got $2, at least $3 wanted"; fi
}

# matches NAME TEXT REGEX
matches() {
    if [[ $2 =~ $3 ]]; then pass "$1"; else fail "$1" "'$2' does not match $3"; fi
}

die() {
    fail "$*"
    exit 1
}

# within SECONDS COMMAND …: until it succeeds. What fails is a try that began after that time, not one before which this shell stood still.
within() {
    local end=$(( $(date +%s%N) + $1 * 1000000000 )) now
    shift
    while :; do
        now=$(date +%s%N)
        "$@" >/dev/null 2>&1 && return 0
        [ "$now" -lt $end ] || return 1
        sleep 0.05
    done
}

done_testing() {
    _scan_logs
    FINISHED=yes
    echo "1..$COUNT"
    [ $FAILED = 0 ] || exit 1
    exit 0
}

# A crash behind the test's back is a failure of the test.
_scan_logs() {
    local words='AddressSanitizer|LeakSanitizer|ThreadSanitizer|runtime error:|Assertion|assertion failed|stack smashing|double free|Segmentation fault|event=crash|crash stack=|uncaught|Unhandled'
    local found
    # Request logs hold names and contents of the tests' own making.
    found=$(grep -aEl "$words" "$LOG"* "$T"/*.out "$T"/sanitizer* 2>/dev/null)
    [ -z "$found" ] || fail "logs are clean" "$(grep -aEh -m 3 "$words" $found | cut -c1-1000)"
}

# ---- the end

_mounts_below() {
    # The newest first: what is mounted on a mount goes before it. \040 stands for a blank.
    awk -v t="$T/" 'index($5 "/", t) == 1 { print $5 }' /proc/self/mountinfo | tac
}

# Processes of this test: they inherited its OBJMIG_TEST_DIR.
_own_pids() {
    local f pid
    for f in $(grep -lzxF "OBJMIG_TEST_DIR=$T" /proc/[0-9]*/environ 2>/dev/null); do
        pid=${f#/proc/}
        pid=${pid%/environ}
        # Neither this shell nor the substitution it runs in.
        if [ "$pid" != $$ ] && [ "$pid" != "$BASHPID" ]; then
            echo "$pid"
        fi
    done
}

_stop_own() {
    local i pids
    # Subshells of the script were never executed anew: their environment is older than OBJMIG_TEST_DIR.
    pids=$(jobs -p)
    [ -z "$pids" ] || kill -KILL $pids 2>/dev/null
    pids=$(_own_pids)
    [ -n "$pids" ] || return 0
    kill $pids 2>/dev/null
    for i in $(seq 40); do
        pids=$(_own_pids)
        [ -n "$pids" ] || return 0
        sleep 0.05
    done
    kill -KILL $pids 2>/dev/null
    within 5 test -z "$(_own_pids)"
}

_cleanup() {
    local rc=$? m
    trap - EXIT INT TERM HUP
    if [ $FINISHED = no ]; then
        fail "the script came to its end" "it left with status $rc"
        echo "1..$COUNT"
        rc=1
    fi
    if [ $FAILED != 0 ] && [ -s "$LOG" ]; then
        echo "# last lines of the log:"
        tail -n 30 "$LOG" | cut -c1-300 | sed 's/^/#   /'
    fi
    cd /
    for m in $(_mounts_below); do
        timeout 10 umount "$(printf '%b' "$m")" 2>/dev/null
    done
    # Before what hangs is unmounted lazily: a dead daemon's mount lets go of those who wait in it.
    _stop_own
    for m in $(_mounts_below); do
        umount -l "$(printf '%b' "$m")" 2>/dev/null
    done
    if [ "${KEEP:-}" = 1 ]; then
        echo "# kept: $T"
    else
        # Never into a mount which would not go.
        [ -n "$(_mounts_below)" ] || rm -rf --one-file-system "$T"
    fi
    exit $rc
}
trap _cleanup EXIT
trap 'exit 130' INT TERM HUP

# ---- servers

# start_cos, start_oss, start_ks3, start_gcs, start_bos, start_upyun, start_qiniu [option …]: a server of this test's own (0.3 s).
# Sets COS_PORT COS_BUCKET COS_LOG and the rest, OSS_… and so on.
start_cos() { _start_store cos "$@"; }
start_oss() { _start_store oss "$@"; }
start_ks3() { _start_store ks3 "$@"; }
start_gcs() { _start_store gcs "$@"; }
start_bos() { _start_store bos "$@"; }
start_upyun() { _start_store upyun "$@"; }
start_qiniu() { _start_store qiniu "$@"; }
stop_cos() { "$SERVERS_DIR/service" cos stop "$T/cos"; }
_start_store() {
    local name=$1 text
    shift
    text=$("$SERVERS_DIR/service" "$name" start "$T/$name" 0 "$@") || die "the $name server does not start"
    eval "$text"
}

# start_azure [option …]: Azurite. Sets AZURE_ENDPOINT AZURE_CONTAINER AZURE_ACCOUNT AZURE_KEY AZURE_SAS AZURE_LOG.
start_azure() {
    local text
    text=$("$SERVERS_DIR/service" azure start "$T/azure" 0 "$@") || die "Azurite does not start"
    eval "$text"
}

# need_rgw: sets RGW_… to the gateway which runs for all tests, or to one of our own.
need_rgw() {
    if [ -z "${RGW_PORT:-}" ]; then
        command -v radosgw >/dev/null || skip_all "radosgw is not installed"
        local text
        text=$("$SERVERS_DIR/rgw" start "$T/rgw") || die "the gateway does not start"
        eval "$text"
    fi
}

# start_s3fast [option …]: the S3 server in memory, see tests/servers/s3fast/main.c. Sets S3FAST_PORT, S3FAST_ENDPOINT and the rest.
start_s3fast() {
    local text
    text=$("$SERVERS_DIR/service" s3fast start "$T/s3fast" 0 "$@") || die "s3fast does not start"
    eval "$text"
}
# s3fast_ctl METHOD WHAT: see control.c there.
s3fast_ctl() { curl -sSg --fail-with-body --noproxy '*' -X "$1" "$S3FAST_ENDPOINT/_ctl/$2"; }

# start_nginx ROOT: a web server of this test's own, see tests/servers/nginx. Sets WEB_PORT WEB_PORT2 WEB_LOG WEB_USER WEB_PASSWORD.
start_nginx() {
    local text PATH=$PATH:/usr/sbin
    command -v nginx >/dev/null || skip_all "nginx is not installed"
    text=$("$SERVERS_DIR/nginx" start "$T/nginx" "$1") || die "nginx does not start"
    eval "$text"
}
# start_web: a web server with faults, see tests/servers/web.py. Sets ODD_PORT.
start_web() {
    python3 "$SERVERS_DIR/web.py" "$T/web.env" </dev/null >"$T/web.out" 2>&1 &
    within 30 test -s "$T/web.env" || die "web.py does not start"
    eval "$(cat "$T/web.env")"
}
# url_list DIR BASE [--manifest]: the files below DIR, as URLs below BASE.
url_list() { python3 "$TESTS_DIR/lib/url_list.py" "$@"; }

# start_proxy HOST:PORT [option …]: sets PROXY_PORT PROXY_LOG PROXY_CONTROL.
start_proxy() {
    local text
    text=$("$SERVERS_DIR/service" proxy start "$T/proxy" 0 --target "$@") || die "the proxy does not start"
    eval "$text"
}

# cos_ctl METHOD WHAT [body or @file], proxy_ctl, upyun_ctl, qiniu_ctl likewise: see the servers' heads for what there is.
cos_ctl() { _ctl "$COS_CONTROL" "$@"; }
proxy_ctl() { _ctl "$PROXY_CONTROL" "$@"; }
upyun_ctl() { store_ctl UPYUN "$@"; }
qiniu_ctl() { store_ctl QINIU "$@"; }
_ctl() {
    local port=$1 method=$2 what=$3
    shift 3
    curl -sSg --fail-with-body --noproxy '*' -X "$method" -H 'Content-Type:' ${1+--data-binary "$1"} "http://127.0.0.1:$port/_ctl/$what"
}

# cos_fault, upyun_fault, proxy_fault JSON: one rule, e.g. '{"op":"UploadPart","action":"status","status":503,"count":3}'
cos_fault() { cos_ctl POST fault "$1" >/dev/null || die "bad fault: $1"; }
upyun_fault() { store_fault UPYUN "$1"; }
qiniu_fault() { store_fault QINIU "$1"; }
proxy_fault() { proxy_ctl POST fault "$1" >/dev/null || die "bad fault: $1"; }

urlencode() {
    local LC_ALL=C text=$1 out='' i c
    for (( i = 0; i < ${#text}; i++ )); do
        c=${text:i:1}
        case $c in
            [A-Za-z0-9/._~-]) out+=$c ;;
            *) out+=$(printf '%%%02X' "$(( $(printf '%d' "'$c") & 255 ))") ;;
        esac
    done
    printf '%s' "$out"
}

# Behind the mount's back, in the bucket of the server COS, OSS, KS3, GCS, BOS or UPYUN: store_put SERVER KEY FILE; store_cat SERVER
# KEY; store_rm SERVER KEY; store_stat SERVER KEY FIELD (md5, size, etag, meta.mtime, headers.content-type …); store_has SERVER KEY;
# store_keys SERVER [PREFIX]
store_ctl() {
    local port=$1_CONTROL
    shift
    _ctl "${!port}" "$@"
}
_store_key() {
    local bucket=$1_BUCKET
    printf '%s/%s' "${!bucket}" "$(urlencode "$2")"
}
store_put() { store_ctl "$1" PUT "object/$(_store_key "$1" "$2")" "@$3" >/dev/null; }
store_cat() { store_ctl "$1" GET "object/$(_store_key "$1" "$2")"; }
store_rm() { store_ctl "$1" DELETE "object/$(_store_key "$1" "$2")" >/dev/null; }
store_stat() { store_ctl "$1" GET "stat/$(_store_key "$1" "$2")?field=$3"; }
store_has() { store_stat "$1" "$2" key >/dev/null 2>&1; }
store_keys() {
    local bucket=$1_BUCKET
    store_ctl "$1" GET "objects/${!bucket}?prefix=$(urlencode "${2:-}")" | python3 -c 'import json, sys
for o in json.load(sys.stdin): print(o["key"])'
}
store_fault() { store_ctl "$1" POST fault "$2" >/dev/null || die "bad fault: $2"; }
cos_put() { store_put COS "$@"; }
cos_cat() { store_cat COS "$@"; }
cos_rm() { store_rm COS "$@"; }
cos_stat() { store_stat COS "$@"; }
cos_has() { store_has COS "$@"; }
cos_keys() { store_keys COS "$@"; }

# The same in $UPYUN_BUCKET.
upyun_put() { store_put UPYUN "$@"; }
upyun_cat() { store_cat UPYUN "$@"; }
upyun_stat() { store_stat UPYUN "$@"; }

# The same in $QINIU_BUCKET; qiniu_put KEY FILE [QUERY].
qiniu_put() { qiniu_ctl PUT "object/$QINIU_BUCKET/$(urlencode "$1")${3:+?$3}" "@$2" >/dev/null; }
qiniu_stat() { store_stat QINIU "$@"; }
qiniu_keys() { store_keys QINIU "$@"; }

# s3 METHOD /BUCKET/KEY [curl option …]: one signed request to the gateway; the path is percent-encoded already.
s3() {
    local method=$1 path=$2
    shift 2
    curl -sS --fail-with-body --noproxy '*' --path-as-is $([ "$method" = HEAD ] && echo -I || echo "-X $method") \
        --aws-sigv4 "aws:amz:$RGW_REGION:s3" --user "$RGW_ACCESS_KEY:$RGW_SECRET_KEY" \
        -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' "$@" "$RGW_ENDPOINT$path"
}

# new_bucket: makes one in the gateway and prints its name.
new_bucket() {
    local name
    name=t-$$-$RANDOM$RANDOM
    s3 PUT "/$name" >/dev/null || return 1
    echo "$name"
}

# ---- configuration and mounts

# write_conf SECTION [key=value …]: adds a section to $CONF.
write_conf() {
    local pair
    ( umask 077; touch "$CONF" )
    {
        echo "[$1]"
        shift
        for pair in "$@"; do
            echo "${pair%%=*} = ${pair#*=}"
        done
        echo
    } >>"$CONF"
}

# conf_cos, conf_oss, conf_ks3, conf_bos, conf_gcs, conf_gcs_account, conf_azure, conf_qiniu, conf_upyun SECTION [key=value …]; conf_s3,
# conf_s3fast SECTION BUCKET […]; conf_local SECTION PATH […]. A later key overrides.
conf_cos() { _conf_store COS cos "$@"; }
conf_oss() { _conf_store OSS oss "$@"; }
conf_ks3() { _conf_store KS3 ks3 "$@"; }
conf_bos() { _conf_store BOS bos "$@"; }
conf_gcs() { _conf_store GCS gcs "$1" region= "${@:2}"; }
conf_gcs_account() { conf_gcs "$1" accessKeyId= accessKeySecret= "serviceAccountFile=$GCS_SERVICE_ACCOUNT" "${@:2}"; }
_conf_store() {
    local provider=$2 name=$3 bucket=$1_BUCKET region=$1_REGION id=$1_SECRET_ID secret=$1_SECRET_KEY port=$1_PORT
    shift 3
    _conf_merged "$name" "provider=$provider" "bucket=${!bucket}" "region=${!region}" "accessKeyId=${!id}" \
        "accessKeySecret=${!secret}" https=off "connectTo=127.0.0.1:${!port}" "$@"
}
conf_azure() {
    local name=$1
    shift
    _conf_merged "$name" provider=azure "bucket=$AZURE_CONTAINER" "accessKeyId=$AZURE_ACCOUNT" "accessKeySecret=$AZURE_KEY" \
        "endPoint=$AZURE_ENDPOINT" https=off "$@"
}
conf_qiniu() {
    local name=$1
    shift
    _conf_merged "$name" provider=qiniu "bucket=$QINIU_BUCKET" "region=$QINIU_REGION" "domain=$QINIU_DOMAIN" "accessKeyId=$QINIU_AK" \
        "accessKeySecret=$QINIU_SK" https=off "connectTo=127.0.0.1:$QINIU_PORT" "$@"
}
conf_s3() {
    local name=$1 bucket=$2
    shift 2
    _conf_merged "$name" provider=s3 "bucket=$bucket" "region=$RGW_REGION" "accessKeyId=$RGW_ACCESS_KEY" \
        "accessKeySecret=$RGW_SECRET_KEY" "endPoint=$RGW_ENDPOINT" https=off pathStyle=on "$@"
}
conf_s3fast() {
    local name=$1 bucket=$2
    shift 2
    _conf_merged "$name" provider=s3 "bucket=$bucket" "region=$S3FAST_REGION" "accessKeyId=$S3FAST_ACCESS_KEY" \
        "accessKeySecret=$S3FAST_SECRET_KEY" "endPoint=$S3FAST_ENDPOINT" https=off pathStyle=on "$@"
}
conf_upyun() {
    local name=$1
    shift
    _conf_merged "$name" provider=upyun "bucket=$UPYUN_BUCKET" "accessKeyId=$UPYUN_OPERATOR" "accessKeySecret=$UPYUN_PASSWORD" \
        https=off "connectTo=127.0.0.1:$UPYUN_PORT" "$@"
}
conf_local() {
    local name=$1 path=$2
    shift 2
    mkdir -p "$path"
    _conf_merged "$name" provider=local "path=$path" "$@"
}
# conf_http SECTION LIST […]: LIST is a file, or a directory of lists.
conf_http() {
    local name=$1 list=$2
    shift 2
    _conf_merged "$name" provider=http "urllistPath=$list" "$@"
}
_conf_merged() {
    local name=$1 pair
    local -A last=()
    local order=()
    shift
    for pair in "$@"; do
        [ -n "${last[${pair%%=*}]+x}" ] || order+=("${pair%%=*}")
        last[${pair%%=*}]=${pair#*=}
    done
    local lines=()
    for pair in "${order[@]}"; do
        lines+=("$pair=${last[$pair]}")
    done
    write_conf "$name" "${lines[@]}"
}

# need_fuse: mount tests only; says so where it cannot be.
need_fuse() {
    [ -c /dev/fuse ] || skip_all "no /dev/fuse"
    command -v mount.objmig >/dev/null || die "mount.objmig is not below $OBJMIG_BUILD"
}

# mount_objmig SPEC DIR [option,option …]: mounts with this test's configuration, cache and log.
mount_objmig() {
    local spec=$1 dir=$2 more=${3:-}
    mkdir -p "$dir" "$CACHE"
    chmod 700 "$CACHE"
    # What the daemon says before it has its log, and a sanitizer's report.
    timeout 60 mount.objmig "$spec" "$dir" -o "config=$CONF,cache=$CACHE,log=$LOG${more:+,$more}" >>"$T/mount.out" 2>&1 || {
        local rc=$?
        sed 's/^/# /' "$T/mount.out" | tail -n 20
        return $rc
    }
    mountpoint -q "$dir"
}

# umount_objmig DIR, and then daemon_gone [SECONDS]: everything queued is finished.
umount_objmig() { timeout 60 umount "$1"; }
daemon_gone() { within "${1:-120}" _no_daemon; }
_no_daemon() { [ -z "$(daemon_pids)" ]; }

# daemon_pids: the mount.objmig processes of this test, whatever they call themselves.
daemon_pids() {
    local pid
    for pid in $(_own_pids); do
        case $(readlink "/proc/$pid/exe" 2>/dev/null) in
            */mount.objmig | */mount.objmig' (deleted)') echo "$pid" ;;
        esac
    done
}

# kill_daemon [SIGNAL]: as a crash would; waits until it is gone.
kill_daemon() {
    local pids
    pids=$(daemon_pids)
    [ -n "$pids" ] || return 1
    kill "-${1:-KILL}" $pids
    within 30 _no_daemon
}

# ---- what went over the wire

# req_count LOG METHOD [OP]: lines of a request log; "*" stands for any method. SINCE=n leaves out the first n lines.
req_count() {
    tail -n "+$(( ${SINCE:-0} + 1 ))" "$1" | awk -v m="${2:-*}" -v o="${3:-}" '
        # A late commit has a second line, which is no request.
        index($0, "\"late\":true") { next }
        (m == "*" || index($0, "\"method\":\"" m "\"")) && (o == "" || index($0, "\"op\":\"" o "\"")) { n++ }
        END { print n + 0 }'
}

# req_bytes LOG req_bytes|res_bytes [OP]: their sum.
req_bytes() {
    tail -n "+$(( ${SINCE:-0} + 1 ))" "$1" | awk -v f="\"$2\":" -v o="${3:-}" '
        index($0, "\"late\":true") { next }
        (o == "" || index($0, "\"op\":\"" o "\"")) && (i = index($0, f)) { s += substr($0, i + length(f)) + 0 }
        END { printf "%d\n", s }'
}

# req_mark LOG: its length now, for SINCE.
req_mark() { wc -l <"$1"; }

# ---- data

# make_file PATH BYTES [SEED]: bytes which do not compress and are the same every time.
make_file() {
    mkdir -p "$(dirname "$1")"
    openssl enc -aes-128-ctr -nosalt -K "$(printf '%032x' "${3:-1}")" -iv 00000000000000000000000000000000 </dev/zero 2>/dev/null | head -c "$2" >"$1"
}

md5_of() { md5sum <"$1" | cut -d' ' -f1; }
