"""odd_keys.py: keys that file systems, URLs and XML trip over, put and listed behind the mount's back.

    put s3|cos BUCKET        every key of KEYS, signed by ourselves and sent as it is; prints those the server refused, with its code
    many s3|cos BUCKET N     N small objects many/NNNNN
    list s3|cos BUCKET       "KEY SIZE MD5" a line, the key percent-encoded, in byte order
    walk DIRECTORY           the same, of what a mount shows: key from user.objmig.key, bytes read
    expect [PREFIX]          the same, of KEYS themselves

The servers are those of $RGW_… and $COS_…; etags must be MD5s (single PUT)."""
import concurrent.futures
import datetime
import hashlib
import hmac
import http.client
import os
import sys
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ET

LONG = "k" * 199 + "/"
KEYS = [k.encode() if isinstance(k, str) else k for k in (
    "a//b", "a///c", "/lead", "//two", ".", "..", "x/../y", "x/./y", "dots/..", "...",
    "dir", "dir/file", "dir/", "dir/sub", "dir/sub/file", "full/", "full//", "full//x",
    "line\nbreak", "tab\there", "bell\a", "%2F", "100%", "50%25", "*", "a?b#c&d=e+f", "back\\slash", "quote'\"",
    "한글/파일.txt", "한글.txt", "emoji 🎈🎉", "trailing space ", " leading", " ", ".objmig", ".objmig/status",
    "^", "^2F", "a^2Fb", "^5E2F", "up^0A", "plain",
    # one component of more than a name's 255 bytes, and neighbours that begin like it
    "long/" + "c" * 300, "long/" + "c" * 300 + "!", "long/" + "c" * 249, "long/" + "c" * 249 + "!", "long/" + "c" * 255,
    "long/" + "c" * 300 + "/below", "long/" + "c" * 600, "long/" + "c" * 249 + "/x", "long/" + "한" * 100, "long/" + "\t" * 90,
    # what some provider takes no object of
    LONG * 4 + "z" * 100, "escape\x1b", b"bytes\xff\xfe", "한".encode()[:2],
)]


def body(key):
    return b"the bytes of " + key


def line(key, size, md5):
    return f"{urllib.parse.quote(key, safe='/')} {size} {md5}"


class Server:
    def __init__(self, kind, bucket):
        self.kind, self.bucket, self.local = kind, bucket, threading.local()
        if kind == "s3":
            self.host = f"{os.environ['RGW_HOST']}:{os.environ['RGW_PORT']}"
            self.name, self.base = self.host, f"/{bucket}".encode()
            self.id, self.secret = os.environ["RGW_ACCESS_KEY"], os.environ["RGW_SECRET_KEY"]
        else:
            self.host = f"127.0.0.1:{os.environ['COS_PORT']}"
            self.name, self.base = f"{bucket}.cos.{os.environ['COS_REGION']}.myqcloud.com", b""
            self.id, self.secret = os.environ["COS_SECRET_ID"], os.environ["COS_SECRET_KEY"]

    def sign_s3(self, method, path, text):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        region = os.environ["RGW_REGION"]
        scope = f"{now[:8]}/{region}/s3/aws4_request"
        headers = {"host": self.name, "x-amz-content-sha256": "UNSIGNED-PAYLOAD", "x-amz-date": now}
        names = ";".join(headers)
        canonical = "\n".join([method, path, text, *(f"{k}:{v}" for k, v in headers.items()), "", names, "UNSIGNED-PAYLOAD"])
        k = ("AWS4" + self.secret).encode()
        for part in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"):
            k = hmac.new(k, part.encode(), hashlib.sha256).digest()
        headers["authorization"] = f"AWS4-HMAC-SHA256 Credential={self.id}/{scope}, SignedHeaders={names}, Signature={k.hex()}"
        return headers

    def sign_cos(self, method, raw, query):
        now = int(time.time())
        span = f"{now - 60};{now + 600}"
        quote = lambda s: urllib.parse.quote(s, safe="-_.~")
        names = ";".join(sorted(quote(k).lower() for k, _ in query))
        text = "&".join(f"{quote(k).lower()}={quote(v)}" for k, v in sorted(query))
        sha = lambda k, b: hmac.new(k.encode(), b, hashlib.sha1).hexdigest()
        http_string = b"\n".join([method.lower().encode(), raw, text.encode(), f"host={quote(self.name)}".encode(), b""])
        to_sign = f"sha1\n{span}\n{hashlib.sha1(http_string).hexdigest()}\n".encode()
        signature = sha(sha(self.secret, span.encode()), to_sign)
        return {"host": self.name, "authorization": f"q-sign-algorithm=sha1&q-ak={self.id}&q-sign-time={span}&q-key-time={span}"
                f"&q-header-list=host&q-url-param-list={names}&q-signature={signature}"}

    def request(self, method, key=b"", query=(), data=b""):
        raw = self.base + b"/" + key
        path = urllib.parse.quote(raw, safe="/-_.~")
        quote = lambda s: urllib.parse.quote(s, safe="-_.~")
        text = "&".join(f"{quote(k)}={quote(v)}" for k, v in sorted(query))
        headers = self.sign_s3(method, path, text) if self.kind == "s3" else self.sign_cos(method, raw, query)
        headers["content-length"] = str(len(data))
        if not hasattr(self.local, "conn"):
            self.local.conn = http.client.HTTPConnection(self.host)
        conn = self.local.conn
        conn.putrequest(method, path + ("?" + text if text else ""), skip_host=True, skip_accept_encoding=True)
        for k, v in headers.items():
            conn.putheader(k, v)
        conn.endheaders(data)
        answer = conn.getresponse()
        return answer.status, answer.read()

    def put(self, key, data):
        status, text = self.request("PUT", key, data=data)
        if status == 200:
            return None
        return ET.fromstring(text).findtext("Code") if text.startswith(b"<") else str(status)

    def list(self):
        marker = ""
        while True:
            status, text = self.request("GET", query=[("encoding-type", "url"), ("marker", marker), ("max-keys", "1000")])
            if status != 200:
                sys.exit(f"list: {status} {text[:300]!r}")
            root = ET.fromstring(text)
            ns = root.tag[:root.tag.index("}") + 1] if root.tag[0] == "{" else ""
            unquote = urllib.parse.unquote_plus if self.kind == "s3" else urllib.parse.unquote
            last = None
            for e in root.iter(ns + "Contents"):
                last = unquote(e.findtext(ns + "Key"))
                yield last.encode(), int(e.findtext(ns + "Size")), e.findtext(ns + "ETag").strip('"')
            if root.findtext(ns + "IsTruncated") != "true":
                return
            marker = last


def walk(top):
    for directory, _, files in os.walk(os.fsencode(top), onerror=lambda e: sys.exit(str(e))):
        for name in files:
            path = os.path.join(directory, name)
            with open(path, "rb") as f:
                data = f.read()
            yield os.getxattr(path, b"user.objmig.key"), len(data), hashlib.md5(data).hexdigest()


def main(what, *args):
    pool = concurrent.futures.ThreadPoolExecutor(8)
    if what == "put":
        server = Server(*args)
        for key, code in zip(KEYS, pool.map(lambda k: server.put(k, body(k)), KEYS)):
            if code:
                print(urllib.parse.quote(key)[:40], code)
    elif what == "many":
        server = Server(*args[:2])
        for code in pool.map(lambda i: server.put(b"many/%05d" % i, b"%d" % i), range(int(args[2]))):
            if code:
                sys.exit(code)
    else:
        if what == "list":
            found = Server(*args).list()
        elif what == "walk":
            found = walk(*args)
        else:
            prefix = (args[0] if args else "").encode()
            found = ((prefix + k, len(body(k)), hashlib.md5(body(k)).hexdigest()) for k in KEYS)
        for entry in sorted(found):
            print(line(*entry))


main(*sys.argv[1:])
