"""Medians of the measurements, one line a row and peer, as a table.

  table.py RESULTS        a tab-separated line a measurement: row, peer, rc, wall, prompt, files, done, cpu, rss KiB, stats (JSON), why"""

import json
import statistics
import sys

SHORT = {
    "ListObjects": "LIST", "ListObjectsV2": "LIST", "HeadObject": "HEAD", "GetObject": "GET", "PutObject": "PUT",
    "CopyObject": "COPY", "DeleteObject": "DEL", "DeleteObjects": "DELS", "CreateMultipartUpload": "init",
    "UploadPart": "part", "UploadPartCopy": "pcopy", "CompleteMultipartUpload": "done", "ListMultipartUploads": "LISTUP",
}

rows = {}
for line in open(sys.argv[1]):
    row, peer, rc, wall, prompt, files, done, cpu, rss, stats, why = line.rstrip("\n").split("\t")
    rows.setdefault(row, {}).setdefault(peer, []).append({
        "rc": int(rc), "wall": float(wall), "prompt": float(prompt), "files": int(files), "done": int(done), "cpu": float(cpu),
        "rss": int(rss) / 1024, "stats": json.loads(stats), "why": why})


def median(runs, of):
    return statistics.median(of(r) for r in runs)


def kinds(run):
    count = {}
    for name, k in run["stats"]["kinds"].items():
        short = SHORT.get(name, name)
        count[short] = count.get(short, 0) + k["n"]
    return " ".join(f"{n} {v}" for n, v in count.items())


def estimate(run):
    """What the whole would have taken, of a run that was stopped; None when nothing had come."""
    if run["rc"] == 124:
        return run["wall"] * run["files"] / run["done"] if run["files"] > run["done"] > 0 else None
    return run["wall"]


def seconds(run):
    if run["rc"] == 0:
        return f"{run['wall']:.2f}"
    whole = estimate(run)
    return f">{run['wall']:.2f}" + (f" (~{whole:.0f})" if whole else "")


def ratio(run, ours):
    """'~' where one of the two is an estimate, '>' where there is not even that; nothing when ours is unknown."""
    if not ours or not estimate(ours):
        return ""
    whole = estimate(run)
    mark = ">" if whole is None else "~" if run["rc"] or ours["rc"] else ""
    return f"{mark}{(whole or run['wall']) / estimate(ours):.2f}"


def table(head, lines):
    widths = [max(len(str(l[i])) for l in [head] + lines) for i in range(len(head))]
    for l in [head] + lines:
        print("  ".join(str(c).ljust(w) if i in (0, 1, len(l) - 1) else str(c).rjust(w)
                        for i, (c, w) in enumerate(zip(l, widths))).rstrip())


out = []
for row, peers in rows.items():
    ours = None
    for peer, runs in peers.items():
        bad = [r for r in runs if r["rc"] not in (0, 124)]
        if bad:
            out.append([row, peer, "failed", "", "", "", "", "", "", bad[0]["why"]])
            continue
        middle = sorted(runs, key=lambda r: r["wall"])[len(runs) // 2]
        if peer == "objmig":
            ours = middle
        mib = 1 << 20
        out.append([
            row, peer, seconds(middle), ratio(middle, ours), "" if middle["rc"] else f"{median(runs, lambda r: r['prompt']):.2f}",
            f"{median(runs, lambda r: r['stats']['out']) / mib:.0f}/{median(runs, lambda r: r['stats']['in']) / mib:.0f}",
            f"{median(runs, lambda r: r['cpu']):.2f}", f"{max(r['rss'] for r in runs):.0f}", middle["stats"]["peak"],
            kinds(middle) + (f" errors {middle['stats']['errors']}" if middle["stats"]["errors"] else "")])
table(["row", "peer", "seconds", "x ours", "prompt", "MiB from/to", "CPU s", "RSS MiB", "peak", "requests"], out)
