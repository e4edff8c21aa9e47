"""check_tree.py DIR PREFIX <objects.json: is what lies below PREFIX at the provider exactly the local tree DIR?

Every file: its size, the MD5 the server itself has (COS: computed from what it holds; S3: the ETag, unless it is one of several
parts), the lowercase hex MD5 in the metadata, a Content-Type that fits the suffix. Every empty directory: a marker. And
nothing else. Prints the first differences and a count; exit 0 only without any."""
import hashlib
import json
import os
import re
import sys

root, prefix = sys.argv[1], sys.argv[2]
TYPES = {".txt": "text/plain", ".html": "text/html", ".json": "application/json", ".jpg": "image/jpeg", ".png": "image/png",
         ".pdf": "application/pdf", ".css": "text/css", ".mp4": "video/mp4", ".gz": "application/(x-)?gzip",
         ".xml": "(application|text)/xml"}
objects = {o["key"]: o for o in json.load(sys.stdin) if o["key"].startswith(prefix)}
wrong = []
files = 0


def check(key, path):
    o = objects.pop(key, None)
    if o is None:
        wrong.append(f"{key}: not there")
        return
    with open(path, "rb") as f:
        data = f.read()
    md5 = hashlib.md5(data).hexdigest()
    theirs = o.get("md5") or (o["etag"] if re.fullmatch("[0-9a-f]{32}", o["etag"]) else None)
    if o["size"] != len(data):
        wrong.append(f"{key}: {o['size']} bytes, not {len(data)}")
    elif theirs not in (None, md5):
        wrong.append(f"{key}: other bytes")
    if o["meta"].get("md5") != md5:
        wrong.append(f"{key}: md5 in the metadata is {o['meta'].get('md5')}, not {md5}")
    kind = o["headers"].get("content-type", "none")
    want = TYPES.get(os.path.splitext(path)[1])
    if not re.match(want + "(;|$)" if want else r"[a-z]+/[\w.+-]+", kind):
        wrong.append(f"{key}: Content-Type {kind}")


for at, below, names in os.walk(root):
    rel = os.path.relpath(at, root)
    here = prefix if rel == "." else f"{prefix}{rel}/"
    for name in names + [d for d in below if os.path.islink(os.path.join(at, d))]:
        if os.path.islink(os.path.join(at, name)):
            if objects.pop(here + name, None) is None:
                wrong.append(f"{here}{name}: the link is not there")
        else:
            files += 1
            check(here + name, os.path.join(at, name))
    if not names and not below and here not in objects:
        wrong.append(f"{here}: no marker of the empty directory")
    marker = objects.pop(here, None)
    if marker is not None and marker["size"] != 0:
        wrong.append(f"{here}: a marker of {marker['size']} bytes")
wrong += [f"{key}: nobody made it" for key in objects]
print("\n".join(wrong[:10] + [f"{files} files, {len(wrong)} wrong"]))
sys.exit(1 if wrong else 0)
