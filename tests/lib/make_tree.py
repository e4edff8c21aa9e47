"""make_tree.py DIR COUNT: a tree of COUNT files, the same every time, as people have them.

Blanks, Korean, Chinese, marks which shells, URLs and XML treat apart; empty files, empty and deep directories; some real
files of /usr/share; modes, mtimes with nanoseconds, symbolic links, one of them leading nowhere."""
import os
import random
import sys

root, count = sys.argv[1], int(sys.argv[2])
rnd = random.Random(20240229)
WORDS = ["photo", "report", "my file", "사진", "보고서 최종", "회의록", "图片", "报告 最终版", "数据", "Ünïcödé", "a+b", "50%",
         "c&d", "x=y", "#1", "it's", 'say "hi"', "(copy)", "[1]", "semi;colon", "~tilde", "comma,", "question?", "star*", "dollar$",
         "back\\slash", "<tag>", "at@home", "%41", "일본어 日本語"]
SUFFIXES = ["txt", "html", "json", "jpg", "png", "pdf", "gz", "css", "xml", "mp4", "dat", ""]
DEEP = "/".join(["deep", "깊은", "深"] * 4)
dirs = ["", "plain", "two words", "한국어/하위 폴더", "中文/子目录", ".hidden", DEEP, "many", "trailing dot.", " leading blank"]
dirs += [f"set {i}/{w}" for i, w in enumerate(rnd.sample(WORDS, 20))]
made = 0


def put(path, data, mode=0o644):
    global made
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(data)
    os.chmod(path, mode)
    made += 1


def real_files():
    for top in ("/usr/share/doc", "/usr/share/perl5", "/usr/share/zoneinfo"):
        for at, below, names in os.walk(top):
            below.sort()
            for name in sorted(names):
                path = os.path.join(at, name)
                if not os.path.islink(path) and 0 < os.path.getsize(path) < 65536:
                    yield path


for path in real_files():
    if made >= count // 5:
        break
    with open(path, "rb") as f:
        put(f"{root}/real{path}", f.read(), os.stat(path).st_mode & 0o777)
# One which takes several parts, one at the very edge of a single request.
put(f"{root}/big/여러 부분.bin", rnd.randbytes(11 * 1048576 + 17))
put(f"{root}/big/threshold", rnd.randbytes(5242880))
put(f"{root}/many/" + "긴" * 80, b"a long name\n")
while made < count:
    where = "many" if rnd.random() < 0.3 else rnd.choice(dirs)
    name = f"{rnd.choice(WORDS)} {made}" if rnd.random() < 0.5 else f"{rnd.choice(WORDS)}{made}"
    suffix = rnd.choice(SUFFIXES)
    kind = rnd.random()
    size = 0 if kind < 0.03 else rnd.randrange(1, 4096) if kind < 0.97 else rnd.randrange(4096, 200000)
    put(os.path.join(root, where, name + ("." + suffix if suffix else "")), rnd.randbytes(size),
        rnd.choice([0o644, 0o644, 0o600, 0o755, 0o440]))
for name in ("empty", "empty dirs/빈 폴더", "empty dirs/空/below"):
    os.makedirs(f"{root}/{name}")
os.symlink("../plain", f"{root}/two words/link to a directory")
os.symlink("threshold", f"{root}/big/link")
os.symlink("nowhere/없음", f"{root}/plain/dangling")
for at, below, names in os.walk(root, topdown=False):
    for name in names:
        path = os.path.join(at, name)
        ns = (1200000000 + rnd.randrange(400000000)) * 1000000000 + rnd.randrange(1000000000)
        os.utime(path, ns=(ns, ns), follow_symlinks=False)
    os.chmod(at, rnd.choice([0o755, 0o755, 0o750, 0o700]))
    ns = (1200000000 + rnd.randrange(400000000)) * 1000000000 + rnd.randrange(1000000000)
    os.utime(at, ns=(ns, ns))
