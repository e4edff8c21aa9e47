#!/usr/bin/env python3
"""Counts what really ran.

    tap.py file NAME OUTPUT RC SECONDS     one script's TAP, and how it ended (124: timeout)
    tap.py meson testlog.json [LABEL]      every test of a `meson test` run

Prints a line a test, the failures in full and every skip with its reason; the last line is "=PASSED FAILED SKIPPED", for
tools/test to add up. What cannot be right (no plan, a short plan, a bad status after good results) counts as a failure.
"""
import json
import re
import sys

RESULT = re.compile(r'^(not )?ok\b *(\d*) *(?:- *)?([^#]*)(?:# *(skip|todo)\b[: ]*(.*))?', re.I)
PLAN = re.compile(r'^1\.\.(\d+)(?:\s*#\s*skip\w*\s*(.*))?', re.I)
SHOWN_LINES = 40
# One fault is often many failures: the first ones tell the most.
SHOWN_FAILURES = 6
SHOWN_WHY = 6
SHOWN_WIDTH = 240


class Outcome:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.skips = []
        self.failures = []  # of each, its lines

    def skip(self, what, why):
        self.skipped += 1
        self.skips.append(f'skipped: {what}: {why.strip() or "no reason given"}')

    def fail(self, what):
        self.failed += 1
        self.failures.append([f'FAILED: {what}'])

    def explain(self, line):
        """What a failed test says of itself, beside its name: the end of the output may be far from it."""
        if len(self.failures[-1]) <= SHOWN_WHY:
            self.failures[-1].append(f'        {line}')

    def notes(self):
        # What crashed or what a sanitizer saw is the cause of the rest.
        first = sorted(self.failures, key=lambda lines: 'logs are clean' not in lines[0])
        lines = self.skips + [line for failure in first[:SHOWN_FAILURES] for line in failure]
        if len(first) > SHOWN_FAILURES:
            lines.append(f'and {len(first) - SHOWN_FAILURES} failures more')
        return [line[:SHOWN_WIDTH] for line in lines]


def count(text, rc, whole=''):
    """The outcome of one test program from its output and exit status."""
    out = Outcome()
    seen, plan, failing = 0, None, False
    for line in text.splitlines():
        line = line.rstrip('\r')
        if m := PLAN.match(line):
            # Programs of several groups print a plan for each.
            plan = (plan or 0) + int(m[1])
            if int(m[1]) == 0:
                out.skip(whole or 'all', m[2] or '')
        elif line.startswith('Bail out!'):
            out.fail(line)
        elif m := RESULT.match(line):
            seen += 1
            failing = False
            name = (m[3] or m[2]).strip()
            kind = (m[4] or '').lower()
            # cmocka marks a skipped test "not ok … # SKIP".
            if kind == 'skip':
                out.skip(name, m[5] or '')
            elif m[1] and kind != 'todo':
                out.fail(name)
                failing = True
            else:
                out.passed += 1
        elif failing and line.startswith('#'):
            out.explain(line)
    if rc == 124:
        out.fail('ran into its time limit')
    elif rc == 77 and not seen and plan is None:
        out.skip(whole or 'all', text.strip().splitlines()[-1] if text.strip() else '')
    elif not seen and plan is None:
        # Not a TAP program: its status is its one result.
        if rc == 0:
            out.passed += 1
        else:
            out.fail(f'exit status {rc}')
    else:
        if plan is None:
            out.fail('no plan: it did not come to its end')
        elif plan != seen:
            out.fail(f'{seen} results where {plan} were planned')
        if rc != 0 and not out.failed:
            out.fail(f'exit status {rc} after good results')
    return out


def report(name, text, out, seconds):
    state = 'FAIL' if out.failed else 'ok  ' if out.passed else 'skip'
    counts = ', '.join(f'{n} {what}' for n, what in ((out.passed, 'passed'), (out.failed, 'failed'), (out.skipped, 'skipped')) if n)
    print(f'  {state} {name} ({counts}; {seconds:.1f} s)')
    for note in out.notes():
        print(f'         {note}')
    if out.failed:
        for line in text.splitlines()[-SHOWN_LINES:]:
            print(f'       | {line}')


def meson_status(test):
    """Exit status as `count` understands it."""
    if test['result'] == 'TIMEOUT':
        return 124
    rc = test.get('returncode', 0)
    # Meson also calls it an error when a program of several groups prints several plans. That is judged here.
    if test['result'] in ('INTERRUPT', 'UNEXPECTEDPASS') and rc == 0:
        return 1
    return rc


def main():
    total = Outcome()
    if sys.argv[1] == 'file':
        name, path, rc, seconds = sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5])
        with open(path, errors='replace') as f:
            text = f.read()
        total = count(text, rc, name)
        report(name, text, total, seconds)
    else:
        label = sys.argv[3] + ': ' if sys.argv[3:] and sys.argv[3] else ''
        with open(sys.argv[2]) as f:
            for line in f:
                test = json.loads(line)
                name = test['name'].split(' / ')[-1]
                text = test.get('stdout', '')
                out = count(text, meson_status(test), name)
                report(label + name, text + test.get('stderr', ''), out, test['duration'])
                total.passed += out.passed
                total.failed += out.failed
                total.skipped += out.skipped
    print(f'={total.passed} {total.failed} {total.skipped}')


main()
