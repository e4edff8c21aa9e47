"""s3_objects.py BUCKET [PREFIX]: every object of a bucket of the gateway in $RGW_… as the COS server's control port prints
its own: a JSON list of {key, size, etag, headers, meta}. Headers come from one HEAD an object."""
import concurrent.futures
import datetime
import hashlib
import hmac
import http.client
import json
import os
import sys
import threading
import urllib.parse
import xml.etree.ElementTree as ET

bucket, prefix = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
host = f"{os.environ['RGW_HOST']}:{os.environ['RGW_PORT']}"
region, access, secret = (os.environ["RGW_" + n] for n in ("REGION", "ACCESS_KEY", "SECRET_KEY"))
local = threading.local()


def request(method, key="", query=()):
    quote = lambda s: urllib.parse.quote(s, safe="-_.~")
    path = urllib.parse.quote(f"/{bucket}/{key}", safe="/-_.~")
    text = "&".join(f"{quote(k)}={quote(v)}" for k, v in sorted(query))
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{now[:8]}/{region}/s3/aws4_request"
    headers = {"host": host, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": now}
    names = ";".join(headers)
    canonical = "\n".join([method, path, text, *(f"{k}:{v}" for k, v in headers.items()), "", names, "UNSIGNED-PAYLOAD"])
    sign = lambda k, s: hmac.new(k, s.encode(), hashlib.sha256).digest()
    k = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        k = sign(k, part)
    to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, "
                                f"Signature={sign(k, to_sign).hex()}")
    if not hasattr(local, "conn"):
        local.conn = http.client.HTTPConnection(host)
    local.conn.request(method, path + ("?" + text if text else ""), headers=headers)
    answer = local.conn.getresponse()
    body = answer.read()
    if answer.status != 200:
        sys.exit(f"{method} {path}?{text}: {answer.status} {body[:300]!r}")
    return body, answer.headers


def keys():
    token = None
    while True:
        query = [("list-type", "2"), ("encoding-type", "url"), ("prefix", prefix)]
        root = ET.fromstring(request("GET", query=query + ([("continuation-token", token)] if token else []))[0])
        ns = root.tag[:root.tag.index("}") + 1] if root.tag[0] == "{" else ""
        for e in root.iter(ns + "Contents"):
            yield urllib.parse.unquote_plus(e.find(ns + "Key").text)
        token = root.findtext(ns + "NextContinuationToken")
        if not token:
            return


def stat(key):
    h = {k.lower(): v for k, v in request("HEAD", key)[1].items()}
    return {"key": key, "size": int(h["content-length"]), "etag": h["etag"].strip('"'), "headers": h,
            "meta": {k[11:]: v for k, v in h.items() if k.startswith("x-amz-meta-")}}


with concurrent.futures.ThreadPoolExecutor(8) as pool:
    json.dump(list(pool.map(stat, keys())), sys.stdout)
