"""Databases for 72_suites.sh. What they hold follows from their number of rows, so that it can be told again later.

    database.py shared FILE delete|wal      made and written by two processes at once; wal shares memory through a mapped file
    database.py exclusive FILE              in mode wal by one process that locks the file for itself: no shared memory
    database.py interrupted FILE            left by a killed process with a transaction half written to the file
    database.py check FILE ROWS             whole, and exactly that many rows, each right
"""
import os
import signal
import sqlite3
import sys

ROWS = 200


def value(k):
    return f'{k}:' * (k % 97 + 1)


def connect(path, **more):
    return sqlite3.connect(path, timeout=60, isolation_level=None, **more)


def create(path, mode, locking='normal'):
    db = connect(path)
    db.execute(f'PRAGMA locking_mode={locking}')
    got = db.execute(f'PRAGMA journal_mode={mode}').fetchone()[0]
    assert got == mode, f'journal_mode is {got}'
    db.execute('CREATE TABLE t (k INTEGER PRIMARY KEY, v TEXT)')
    db.execute('CREATE INDEX by_value ON t (v)')
    return db


def insert(db, first, count, step=10):
    for k in range(first, first + count, step):
        db.execute('BEGIN IMMEDIATE')
        db.executemany('INSERT INTO t VALUES (?, ?)', [(n, value(n)) for n in range(k, k + step)])
        db.execute('COMMIT')


def in_child(run):
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        except BaseException as e:
            print(f'{type(e).__name__}: {e}', flush=True)
            os._exit(1)
    return child


def finished(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def shared(path, mode):
    db = create(path, mode)
    db.close()
    half = ROWS // 2
    child = in_child(lambda: insert(connect(path), half, half))
    db = connect(path)
    insert(db, 0, half)
    assert finished(child) == 0, 'the other process failed'
    if mode == 'wal':
        assert os.path.exists(path + '-shm'), 'no shared memory was used'
    # Longer rows, so that pages split and are given back.
    db.execute('INSERT INTO t SELECT k + 100000, v || v FROM t')
    db.execute('DELETE FROM t WHERE k >= 100000')
    db.execute('VACUUM')
    db.close()
    check(path, ROWS)


def exclusive(path):
    db = create(path, 'wal', 'exclusive')
    insert(db, 0, ROWS)
    assert not os.path.exists(path + '-shm'), 'shared memory was used'
    db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    insert(db, ROWS, ROWS)
    db.close()
    check(path, 2 * ROWS)


def interrupted(path):
    db = create(path, 'delete')
    insert(db, 0, ROWS)
    db.close()

    def die():
        mine = connect(path)
        mine.execute('PRAGMA cache_size=1')  # changed pages go to the file before the commit
        mine.execute('BEGIN IMMEDIATE')
        mine.execute("UPDATE t SET v = 'lost' || v")
        os.kill(os.getpid(), signal.SIGKILL)

    assert finished(in_child(die)) == -signal.SIGKILL
    assert os.path.getsize(path + '-journal') > 0, 'nothing of the transaction had reached the journal'


def check(path, rows):
    assert os.path.exists(path), 'no such file'
    db = connect(path)
    got = db.execute('PRAGMA integrity_check').fetchall()
    assert got == [('ok',)], got[:5]
    got = db.execute('SELECT k, v FROM t ORDER BY k').fetchall()
    assert len(got) == rows, f'{len(got)} rows, not {rows}'
    for want, (k, v) in enumerate(got):
        assert (k, v) == (want, value(want)), f'row {want} is {k}: {v[:40]!r}'
    db.close()


if __name__ == '__main__':
    command, path = sys.argv[1:3]
    if command == 'shared':
        shared(path, sys.argv[3])
    elif command == 'exclusive':
        exclusive(path)
    elif command == 'interrupted':
        interrupted(path)
    elif command == 'check':
        check(path, int(sys.argv[3]))
    else:
        sys.exit(f'unknown command {command}')
