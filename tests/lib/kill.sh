# For tests that kill daemons over a COS bucket; after lib.sh.

# compare_objects PREFIX SOURCE: compares the objects below PREFIX with their sources. Prints what is wrong.
compare_objects() {
    cos_ctl GET "objects/$COS_BUCKET?prefix=$1" | python3 -c '
import hashlib, json, os, sys, urllib.parse, urllib.request
prefix, source, control, bucket = sys.argv[1:5]
def object_md5(o):
    # The server has none of an object which was put together from parts.
    if o.get("md5") is None:
        url = f"http://127.0.0.1:{control}/_ctl/object/{bucket}/" + urllib.parse.quote(o["key"])
        with urllib.request.urlopen(url) as f:
            h = hashlib.md5()
            for piece in iter(lambda: f.read(1 << 20), b""):
                h.update(piece)
        return h.hexdigest()
    return o["md5"]
def md5(path):
    h = hashlib.md5()
    with open(path, "rb") as f:
        for piece in iter(lambda: f.read(1 << 20), b""):
            h.update(piece)
    return h.hexdigest()
for o in json.load(sys.stdin):
    rest = o["key"][len(prefix):]
    if rest == "" or rest.endswith("/"):
        continue
    path = os.path.join(source, rest)
    if not os.path.exists(path):
        # rsync writes under a temporary name; what of it was closed is whole.
        print("no source:", o["key"], o["size"]) if not os.path.basename(rest).startswith(".") else None
    elif os.path.getsize(path) != o["size"] or md5(path) != object_md5(o):
        print("differs:", o["key"], o["size"], "of", os.path.getsize(path))
    elif o["meta"].get("md5") != md5(path):
        print("md5 attribute:", o["key"], o["meta"].get("md5"), "for", md5(path))
' "$1" "$2" "$COS_CONTROL" "$COS_BUCKET" 2>&1
}

# Parts sent more often than twice, and files of which more than one part was sent twice.
parts_twice() {
    python3 -c '
import collections, json, sys, urllib.parse
sent = collections.Counter()
for line in open(sys.argv[1]):
    r = json.loads(line)
    if r.get("op") == "UploadPart" and r.get("status") == 200 and not r.get("late"):
        q = dict(urllib.parse.parse_qsl(r["query"])) if isinstance(r["query"], str) else r["query"]
        sent[r["key"], q.get("uploadId"), int(q["partNumber"])] += 1
again = collections.defaultdict(list)
for (key, upload, n), times in sent.items():
    if times > 1:
        again[key].append((n, times))
for key, parts in again.items():
    if len(parts) > 1 or parts[0][1] > 2:
        print(key, parts)
' "$COS_LOG" 2>&1
}

nothing() { # NAME TEXT
    if [ -z "$2" ]; then pass "$1"; else fail "$1" "$(head -n 8 <<<"$2")"; fi
}

pause() { sleep "$(awk -v n="$RANDOM" -v lo="$1" -v hi="$2" 'BEGIN { print lo + (hi - lo) * n / 32767 }')"; }

# status of the journal while no daemon runs: it must count what is pending, and agree with itself.
check_status() {
    local json
    json=$(objmig status --cache "$CACHE" --json 2>&1)
    python3 -c '
import json, sys
s = json.loads(sys.argv[1])
assert s["daemon"] is False, "it says that a daemon runs"
p = s["pending"]
assert all(isinstance(p[n], int) and p[n] >= 0 for n in ("files", "bytes", "failed", "unfinished"))
assert p["failed"] == 0, p
' "$json" 2>&1 | tail -n 1
}
