"""Runs one measured command.

  run.py --cap SECONDS [--then COMMAND] [--until URL=TEXT] [--count URL|DIR] -- COMMAND …

The time runs from the start of COMMAND until it has ended, --then has ended, and what URL answers begins with TEXT. At --cap
everything is killed. Prints shell assignments: R_RC (0; 124 capped; else of the command), R_PROMPT (COMMAND alone), R_WALL,
R_CPU and R_RSS (of COMMAND and --then: seconds, KiB), R_DONE (files there when it was capped, by --count)."""

import argparse
import http.client
import os
import resource
import signal
import subprocess
import sys
import time
import urllib.parse

parser = argparse.ArgumentParser()
parser.add_argument("--cap", type=float, required=True)
parser.add_argument("--then", default="")
parser.add_argument("--until", default="")
parser.add_argument("--count", default="")
parser.add_argument("command", nargs="+")
args = parser.parse_args()

began = time.monotonic()
running = None


def left():
    return began + args.cap - time.monotonic()


def run(command, **more):
    """Its exit status, or None when the time was up."""
    global running
    # A group of its own, so that what it starts goes with it.
    running = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, **more)
    try:
        return running.wait(max(left(), 0.001))
    except subprocess.TimeoutExpired:
        end()
        return None
    finally:
        running = None


def end():
    os.killpg(running.pid, signal.SIGKILL)
    try:
        running.wait(5)
    except subprocess.TimeoutExpired:
        pass  # in the kernel, waiting for a mount that is about to be taken away


def interrupted(*_):
    if running:
        end()
    sys.exit(130)


def get(url):
    u = urllib.parse.urlsplit(url)
    c = http.client.HTTPConnection(u.netloc, timeout=30)
    c.request("GET", u.path + "?" + u.query)
    text = c.getresponse().read().decode()
    c.close()
    return text


def done():
    if not args.count:
        return 0
    if args.count.startswith("http://"):
        return int(get(args.count).split()[0])
    return sum(len(files) for _, _, files in os.walk(args.count))


signal.signal(signal.SIGTERM, interrupted)
signal.signal(signal.SIGINT, interrupted)
status = run(args.command)
prompt = time.monotonic() - began
if status == 0 and args.then:
    status = run(args.then, shell=True)
if status == 0 and args.until:
    url, _, text = args.until.rpartition("=>")
    while not get(url).startswith(text):
        if left() <= 0:
            status = None
            break
        time.sleep(0.01)
wall = time.monotonic() - began
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"R_RC={124 if status is None else status} R_PROMPT={prompt:.3f} R_WALL={wall:.3f} "
      f"R_CPU={used.ru_utime + used.ru_stime:.2f} R_RSS={used.ru_maxrss} R_DONE={done() if status is None else 0}")
