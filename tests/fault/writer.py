"""A writer for kill tests: writer.py LOG DIR SEED [BIG_BYTES]

Writes files below DIR until something fails. For each one whose close() returned it appends a line "PATH<tab>MD5" to LOG, which
is what the mount has promised to keep. With BIG_BYTES: that one file, in pieces of 1 MiB, then the end."""
import hashlib
import os
import random
import sys

log = open(sys.argv[1], 'a', buffering=1)
base, rng = sys.argv[2], random.Random(int(sys.argv[3]))


def write(name, pieces):
    path = os.path.join(base, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    digest = hashlib.md5()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    for piece in pieces:
        at = 0
        while at < len(piece):
            at += os.write(fd, piece[at:])
        digest.update(piece)
    os.close(fd)
    log.write(f'{path}\t{digest.hexdigest()}\n')


try:
    if len(sys.argv) > 4:
        write('big', (rng.randbytes(1 << 20) for _ in range(int(sys.argv[4]) >> 20)))
    else:
        for k in range(100000):
            write(f'd{k % 7}/w{k}', [rng.randbytes(rng.choice([0, 1, 300, 5000, 70000, 1500000])) for _ in range(rng.randint(1, 2))])
except OSError as e:
    print('writer:', e)
