#!/usr/bin/env python3
"""The files below a directory as a list of URLs.

    url_list.py DIR BASE              one URL a line: BASE + '/' + the percent-encoded path
    url_list.py DIR BASE --manifest   columns Key,Url: the key is the path, whatever BASE has before it
"""
import csv
import os
import sys
import urllib.parse


def main():
    root, base = os.fsencode(sys.argv[1]), sys.argv[2]
    manifest = csv.writer(sys.stdout, lineterminator='\n') if sys.argv[3:] == ['--manifest'] else None
    if manifest:
        manifest.writerow(['Key', 'Url'])
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.relpath(os.path.join(directory, name), root)
            url = f'{base}/{urllib.parse.quote(path)}'
            if manifest:
                manifest.writerow([path.decode(), url])
            else:
                print(url)


main()
