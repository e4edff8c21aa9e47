#!/usr/bin/env python3
"""What the web servers of the tests have to show.

    web_tree.py DIR [BIG]     names and sizes that are not easy; BIG: bytes of the largest file (3 MiB)
"""
import os
import random
import sys

NAMES = ['plain.txt', 'with blank', 'plus+plus', 'percent%41.txt', 'hash#mark', 'question?mark', 'quote"s\'', 'semi;colon',
         'comma,comma', 'brackets[1]{2}', 'less<more>', 'back\\slash', 'tilde~', 'umlaut-ä', '中文', '한국어.txt', 'emoji-😀',
         'ampersand&equal=', 'caret^XX', 'pipe|pipe', 'UPPER.TXT', 'dots...', '.hidden', '*star*', 'a:b@c']
SIZES = [0, 1, 2, 100, 1000, 4096, 65535, 65536, 65537, 200000]


def main():
    root, big = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3 << 20
    rnd = random.Random(1)

    def put(path, size):
        path = os.path.join(root, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, 'wb') as f:
            f.write(rnd.randbytes(size))
        os.utime(path, (1700000000 + size, 1700000000 + size))
    for n, name in enumerate(NAMES):
        put(f'names/{name}', SIZES[n % len(SIZES)])
        put(f'deep {n % 3}/dir-{n}/{name}', n)
    for n in range(20):
        put(f'many/file-{n:03}.png', 10 * n)
    put('big', big)
    put('top.html', 77)


main()
