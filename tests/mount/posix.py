"""What 60_posix.sh needs a program for.

    posix.py calls DIR               each system call and what must come of it: lines "ok NAME", "not ok NAME: why"
"""
import ctypes
import ctypes.util
import errno
import mmap
import os
import stat
import sys
import traceback

LIBC = ctypes.CDLL(ctypes.util.find_library('c'), use_errno=True)
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def raises(number, call, *args):
    try:
        call(*args)
    except OSError as e:
        assert e.errno == number, f'{call.__name__}: {errno.errorcode[e.errno]}, not {errno.errorcode[number]}'
        return
    raise AssertionError(f'{call.__name__} did not fail with {errno.errorcode[number]}')


def put(path, data):
    with open(path, 'wb') as f:
        f.write(data)


def get(path):
    with open(path, 'rb') as f:
        return f.read()


def same(got, want):
    if got != want:
        if isinstance(want, bytes) and len(want) > 40:
            at = next((k for k in range(min(len(got), len(want))) if got[k] != want[k]), min(len(got), len(want)))
            raise AssertionError(f'{len(got)} bytes for {len(want)}, different at {at}: '
                                 f'{got[at:at + 16]!r} for {want[at:at + 16]!r}')
        raise AssertionError(f'got {got!r}, want {want!r}')


def pattern(size, seed=1):
    return bytes((k * 31 + seed * 7 + (k >> 8)) & 255 for k in range(size))


@check
def write_at_any_offset():
    fd = os.open('f', os.O_RDWR | os.O_CREAT, 0o644)
    os.pwrite(fd, b'end', 100000)
    os.pwrite(fd, b'middle', 50000)
    os.pwrite(fd, b'start', 0)
    want = bytearray(100003)
    want[0:5], want[50000:50006], want[100000:] = b'start', b'middle', b'end'
    same(os.pread(fd, 200000, 0), bytes(want))
    os.close(fd)
    same(get('f'), bytes(want))
    fd = os.open('f', os.O_RDWR)
    os.pwrite(fd, b'again', 4094)
    want[4094:4099] = b'again'
    same(os.pread(fd, 100, 4090), bytes(want[4090:4190]))
    os.close(fd)
    same(get('f'), bytes(want))


@check
def append_with_two_descriptors():
    a = os.open('f', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    b = os.open('f', os.O_WRONLY | os.O_APPEND)
    for k in range(50):
        os.write(a, b'a%03d\n' % k)
        os.write(b, b'b%03d\n' % k)
    os.close(a)
    os.close(b)
    same(get('f'), b''.join(b'a%03d\nb%03d\n' % (k, k) for k in range(50)))


@check
def exclusive_create():
    os.close(os.open('f', os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    raises(errno.EEXIST, os.open, 'f', os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.symlink('nowhere', 'l')
    raises(errno.EEXIST, os.open, 'l', os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    raises(errno.EEXIST, os.mkdir, 'f')


@check
def open_errors():
    os.mkdir('d')
    put('f', b'')
    raises(errno.ENOENT, os.open, 'no', os.O_RDONLY)
    raises(errno.EISDIR, os.open, 'd', os.O_WRONLY)
    raises(errno.ENOTDIR, os.open, 'f/x', os.O_RDONLY)
    raises(errno.ENOTDIR, os.open, 'f', os.O_DIRECTORY)
    raises(errno.ENAMETOOLONG, os.open, 'x' * 256, os.O_CREAT | os.O_WRONLY)
    put('y' * 255, b'long')
    same(get('y' * 255), b'long')
    raises(errno.EISDIR, os.unlink, 'd')
    raises(errno.ENOTDIR, os.rmdir, 'f')


@check
def truncate_down_and_up():
    data = pattern(300000)
    put('f', data)
    os.truncate('f', 100001)
    same(get('f'), data[:100001])
    os.truncate('f', 200000)
    same(get('f'), data[:100001] + bytes(99999))
    with open('f', 'r+b') as f:
        f.truncate(50)
        f.truncate(5000)
        f.seek(4000)
        f.write(b'x')
    same(get('f'), data[:50] + bytes(3950) + b'x' + bytes(999))
    os.truncate('f', 0)
    same(os.stat('f').st_size, 0)
    put('f', data)
    put('f', b'short')
    same(get('f'), b'short')


@check
def truncate_of_a_committed_object():
    data = pattern(70000)
    fd = os.open('f', os.O_RDWR | os.O_CREAT)
    os.write(fd, data)
    os.fsync(fd)
    os.close(fd)
    os.truncate('f', 60000)
    os.truncate('f', 65000)
    same(get('f'), data[:60000] + bytes(5000))
    fd = os.open('f', os.O_RDWR)
    os.pwrite(fd, b'mid', 30000)
    os.fsync(fd)
    os.close(fd)
    same(get('f'), data[:30000] + b'mid' + data[30003:60000] + bytes(5000))


@check
def rename_rules():
    put('a', b'a')
    put('b', b'b')
    os.rename('a', 'b')
    same((get('b'), os.path.exists('a')), (b'a', False))
    os.mkdir('d')
    os.mkdir('e')
    raises(errno.EISDIR, os.rename, 'b', 'd')
    raises(errno.ENOTDIR, os.rename, 'd', 'b')
    put('d/x', b'x')
    os.rename('d', 'e')
    same(sorted(os.listdir('.')), ['b', 'e'])
    same(get('e/x'), b'x')
    os.mkdir('f')
    raises(errno.ENOTEMPTY, os.rename, 'f', 'e')
    raises(errno.EINVAL, os.rename, 'e', 'e/sub')
    raises(errno.ENOENT, os.rename, 'no', 'x')
    os.rename('b', 'b')
    same(get('b'), b'a')


@check
def rename_of_a_file_that_is_open():
    fd = os.open('a', os.O_RDWR | os.O_CREAT)
    os.write(fd, b'before ')
    os.rename('a', 'b')
    os.write(fd, b'after')
    os.close(fd)
    same((get('b'), os.path.exists('a')), (b'before after', False))


@check
def rename_onto_a_file_that_is_open():
    put('a', b'new')
    put('b', b'old content')
    fd = os.open('b', os.O_RDONLY)
    os.rename('a', 'b')
    same(os.pread(fd, 100, 0), b'old content')
    os.close(fd)
    same(get('b'), b'new')


@check
def renameat2_noreplace_and_exchange():
    put('a', b'a')
    put('b', b'b')

    def renameat2(flags):
        if LIBC.renameat2(-100, b'a', -100, b'b', flags) < 0:
            raise OSError(ctypes.get_errno(), 'renameat2')
    raises(errno.EEXIST, renameat2, 1)
    same((get('a'), get('b')), (b'a', b'b'))
    try:
        renameat2(2)
    except OSError as e:
        assert e.errno in (errno.EINVAL, errno.ENOSYS), e
        same((get('a'), get('b')), (b'a', b'b'))
    else:
        same((get('a'), get('b')), (b'b', b'a'))


@check
def swap_by_three_renames():
    put('a', pattern(9000, 1))
    put('b', pattern(9000, 2))
    fd = os.open('.', os.O_RDONLY)
    for name in ('a', 'b'):
        with open(name, 'r+b') as f:
            os.fsync(f.fileno())
    os.rename('a', 't')
    os.rename('b', 'a')
    os.rename('t', 'b')
    os.close(fd)
    same((get('a'), get('b')), (pattern(9000, 2), pattern(9000, 1)))


@check
def deep_directory_renamed_with_committed_files():
    os.makedirs('d/e/f')
    for k in range(20):
        with open(f'd/e/f/{k}', 'wb') as f:
            f.write(b'%d' % k)
            if k % 2:
                os.fsync(f.fileno())
    os.rename('d/e', 'moved')
    same(sorted(os.listdir('moved/f'), key=int), [str(k) for k in range(20)])
    for k in range(20):
        same(get(f'moved/f/{k}'), b'%d' % k)
    same(os.listdir('d'), [])
    os.rename('moved', 'd/e')
    same(get('d/e/f/7'), b'7')


@check
def unlink_of_an_open_file():
    fd = os.open('f', os.O_RDWR | os.O_CREAT)
    os.write(fd, b'still here')
    os.unlink('f')
    same(os.path.exists('f'), False)
    same(os.pread(fd, 100, 0), b'still here')
    os.pwrite(fd, b'STILL', 0)
    same(os.pread(fd, 100, 0), b'STILL here')
    same(os.fstat(fd).st_nlink, 0)
    os.ftruncate(fd, 3)
    same(os.fstat(fd).st_size, 3)
    put('f', b'another')
    os.close(fd)
    same(get('f'), b'another')


@check
def unlink_of_an_open_committed_file():
    fd = os.open('f', os.O_RDWR | os.O_CREAT)
    os.write(fd, pattern(100000))
    os.fsync(fd)
    os.close(fd)
    fd = os.open('f', os.O_RDONLY)
    os.unlink('f')
    same(os.pread(fd, 200000, 0), pattern(100000))
    os.close(fd)
    same(os.listdir('.'), [])


@check
def directories():
    os.mkdir('d', 0o700)
    same(stat.S_IMODE(os.stat('d').st_mode), 0o700)
    raises(errno.EEXIST, os.mkdir, 'd')
    put('d/f', b'')
    raises(errno.ENOTEMPTY, os.rmdir, 'd')
    os.unlink('d/f')
    os.rmdir('d')
    raises(errno.ENOENT, os.rmdir, 'd')
    raises(errno.ENOENT, os.mkdir, 'no/x')
    os.mkdir('p')
    raises(errno.ENOTEMPTY, os.rmdir, '..')


@check
def listing_while_it_changes():
    for k in range(300):
        put(f'n{k:03}', b'')
    seen = []
    with os.scandir('.') as it:
        for e in it:
            seen.append(e.name)
            os.unlink(e.name)
    same(sorted(seen), [f'n{k:03}' for k in range(300)])
    same(os.listdir('.'), [])


@check
def symbolic_links():
    os.symlink('target', 'l')
    same(os.readlink('l'), 'target')
    same(os.lstat('l').st_size, 6)
    raises(errno.ENOENT, os.stat, 'l')
    put('target', b't')
    same(get('l'), b't')
    long = 'x/' * 700 + 'y'
    os.symlink(long, 'long')
    same(os.readlink('long'), long)
    os.symlink('l2', 'l2')
    raises(errno.ELOOP, os.stat, 'l2')
    raises(errno.EINVAL, os.readlink, 'target')
    os.rename('l', 'm')
    same(os.readlink('m'), 'target')
    os.unlink('m')
    same(get('target'), b't')


@check
def special_files():
    os.mkfifo('p', 0o600)
    same(stat.S_ISFIFO(os.stat('p').st_mode), True)
    os.mknod('z', stat.S_IFCHR | 0o600, os.makedev(1, 5))
    st = os.stat('z')
    same((stat.S_ISCHR(st.st_mode), st.st_rdev), (True, os.makedev(1, 5)))


@check
def modes_owners_and_times():
    put('f', b'x')
    os.chmod('f', 0o6751)
    same(stat.S_IMODE(os.stat('f').st_mode), 0o6751)
    os.chown('f', 12, 34)
    st = os.stat('f')
    same((st.st_uid, st.st_gid), (12, 34))
    os.chown('f', -1, 56)
    st = os.stat('f')
    same((st.st_uid, st.st_gid), (12, 56))
    os.utime('f', ns=(1111111111222222222, 987654321123456789))
    same(os.stat('f').st_mtime_ns, 987654321123456789)
    os.utime('f', ns=(0, -1500000000))
    same(os.stat('f').st_mtime_ns, -1500000000)
    os.utime('f', ns=(0, 987654321123456789))
    with open('f', 'r+b') as f:
        f.write(b'y')
    assert os.stat('f').st_mtime > 1600000000, 'a write did not change mtime'
    # A descriptor that was written to, then given a time: rsync and cp -p do so.
    fd = os.open('g', os.O_WRONLY | os.O_CREAT)
    os.write(fd, b'data')
    os.utime(fd, ns=(0, 1234567890123456789))
    os.close(fd)
    same(os.stat('g').st_mtime_ns, 1234567890123456789)
    os.utime('g')
    assert os.stat('g').st_mtime > 1600000000, 'touch did not change mtime'


@check
def mtime_of_directories():
    os.mkdir('d')
    os.utime('d', ns=(0, 1000000000000000000))
    same(os.stat('d').st_mtime_ns, 1000000000000000000)
    put('d/x', b'')
    assert os.stat('d').st_mtime > 1600000000, 'creating a file did not change the mtime of its directory'


@check
def sizes_and_inode_numbers():
    put('f', bytes(1000))
    st = os.stat('f')
    same((st.st_size, st.st_blocks, st.st_blksize), (1000, 2, 1 << 20))
    with os.scandir('.') as it:
        same([e.inode() for e in it if e.name == 'f'], [st.st_ino])
    put('g', b'')
    assert os.stat('g').st_ino != st.st_ino


@check
def extended_attributes():
    put('f', b'x')
    os.setxattr('f', 'user.a', b'1')
    os.setxattr('f', 'user.b', b'')
    os.setxattr('f', 'user.a', b'two')
    same(os.getxattr('f', 'user.a'), b'two')
    same(os.getxattr('f', 'user.b'), b'')
    names = os.listxattr('f')
    assert 'user.a' in names and 'user.b' in names, names
    raises(errno.EEXIST, os.setxattr, 'f', 'user.a', b'3', os.XATTR_CREATE)
    raises(errno.ENODATA, os.setxattr, 'f', 'user.c', b'3', os.XATTR_REPLACE)
    raises(errno.ENODATA, os.getxattr, 'f', 'user.c')
    os.removexattr('f', 'user.a')
    raises(errno.ENODATA, os.getxattr, 'f', 'user.a')
    raises(errno.ENODATA, os.removexattr, 'f', 'user.a')
    buf = ctypes.create_string_buffer(1)
    os.setxattr('f', 'user.d', b'longer')
    same((LIBC.getxattr(b'f', b'user.d', buf, 1), ctypes.get_errno()), (-1, errno.ERANGE))
    same(LIBC.getxattr(b'f', b'user.d', None, 0), 6)
    raises(errno.EOPNOTSUPP, os.setxattr, 'f', 'system.posix_acl_access', b'\2\0\0\0')
    assert os.getxattr('f', 'user.objmig.key').endswith(b'f'), os.getxattr('f', 'user.objmig.key')
    # What exceeds the provider's limit fails here, and stays as it was.
    try:
        os.setxattr('f', 'user.huge', b'x' * 60000)
    except OSError as e:
        assert e.errno in (errno.E2BIG, errno.ENOSPC, errno.ERANGE), e
        raises(errno.ENODATA, os.getxattr, 'f', 'user.huge')
        os.setxattr('f', 'user.small', b'x')
    else:
        same(os.getxattr('f', 'user.huge'), b'x' * 60000)
        os.removexattr('f', 'user.huge')


@check
def fsync_calls():
    fd = os.open('f', os.O_RDWR | os.O_CREAT)
    os.write(fd, b'1')
    os.fsync(fd)
    os.write(fd, b'2')
    os.fdatasync(fd)
    os.close(fd)
    d = os.open('.', os.O_RDONLY)
    os.fsync(d)
    os.close(d)
    same(get('f'), b'12')
    same(os.getxattr('f', 'user.objmig.md5'), b'c20ad4d76fe97759aa27a0c99bff6710')


@check
def fallocate():
    put('f', b'\xff' * 100000)
    fd = os.open('f', os.O_RDWR)

    def call(mode, offset, size):
        if LIBC.fallocate(fd, mode, ctypes.c_long(offset), ctypes.c_long(size)) < 0:
            raise OSError(ctypes.get_errno(), 'fallocate')
    call(3, 10000, 20000)
    want = bytearray(b'\xff' * 100000)
    want[10000:30000] = bytes(20000)
    same(os.pread(fd, 200000, 0), bytes(want))
    call(3, 90000, 50000)
    want[90000:] = bytes(10000)
    same(os.pread(fd, 200000, 0), bytes(want))
    call(0, 0, 150000)
    same(os.fstat(fd).st_size, 150000)
    call(1, 0, 300000)
    same(os.fstat(fd).st_size, 150000)
    os.close(fd)
    same(get('f'), bytes(want) + bytes(50000))


@check
def seek_hole_and_data():
    fd = os.open('f', os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b'x' * 4096, 1 << 20)
    os.ftruncate(fd, 4 << 20)
    data = os.lseek(fd, 0, os.SEEK_DATA)
    assert 0 <= data <= 1 << 20, data
    hole = os.lseek(fd, 1 << 20, os.SEEK_HOLE)
    assert (1 << 20) + 4096 <= hole <= 4 << 20, hole
    raises(errno.ENXIO, os.lseek, fd, 5 << 20, os.SEEK_DATA)
    raises(errno.ENXIO, os.lseek, fd, 4 << 20, os.SEEK_HOLE)
    same(os.lseek(fd, 0, os.SEEK_END), 4 << 20)
    os.close(fd)


@check
def mmap_shared():
    put('f', pattern(50000))
    want = bytearray(pattern(50000))
    with open('f', 'r+b') as f:
        m = mmap.mmap(f.fileno(), 50000)
        m[100:105] = b'MMAPS'
        m[49990:50000] = b'0123456789'
        want[100:105], want[49990:] = b'MMAPS', b'0123456789'
        same(os.pread(f.fileno(), 60000, 0), bytes(want))
        os.pwrite(f.fileno(), b'pwrite', 20000)
        want[20000:20006] = b'pwrite'
        same(m[:], bytes(want))
        m.flush()
        m[200:203] = b'end'
        want[200:203] = b'end'
        m.close()
    same(get('f'), bytes(want))


@check
def mmap_written_after_close():
    put('f', pattern(20000))
    fd = os.open('f', os.O_RDWR)
    m = mmap.mmap(fd, 20000)
    os.close(fd)
    m[5000:5004] = b'late'
    m.close()
    want = bytearray(pattern(20000))
    want[5000:5004] = b'late'
    same(get('f'), bytes(want))


@check
def copy_file_range():
    put('a', pattern(300000))
    put('b', b'\xee' * 10)
    a, b = os.open('a', os.O_RDONLY), os.open('b', os.O_RDWR)
    want = bytearray(b'\xee' * 10)
    done = 0
    while done < 200001:
        n = os.copy_file_range(a, b, 200001 - done, 1000 + done, 5 + done)
        assert n > 0, n
        done += n
    want = b'\xee' * 5 + pattern(300000)[1000:201001]
    same(os.fstat(b).st_size, len(want))
    same(os.pread(b, 400000, 0), want)
    same(os.copy_file_range(a, b, 100, 300000, 0), 0)
    os.close(a)
    os.close(b)
    same(get('b'), want)


@check
def copy_file_range_from_a_committed_object():
    data = pattern(3000000)
    with open('a', 'wb') as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    with open('a', 'rb') as a, open('b', 'w+b') as b:
        done = 0
        while done < len(data):
            n = os.copy_file_range(a.fileno(), b.fileno(), len(data) - done)
            assert n > 0, n
            done += n
        # The source is replaced before the copy can have gone out; the copy keeps what it was given.
        os.unlink('a')
        put('a', b'new')
        same(os.pread(b.fileno(), 4000000, 0), data)
        os.pwrite(b.fileno(), b'changed', 1500000)
        os.ftruncate(b.fileno(), 2000001)
    want = data[:1500000] + b'changed' + data[1500007:2000001]
    same(get('b'), want)
    with open('b', 'r+b') as b:
        os.fsync(b.fileno())
    same((get('b'), get('a')), (want, b'new'))


@check
def copy_file_range_within_one_file():
    put('a', pattern(100000))
    fd = os.open('a', os.O_RDWR)
    raises(errno.EINVAL, os.copy_file_range, fd, fd, 5000, 1000, 3000)
    done = 0
    while done < 30000:
        done += os.copy_file_range(fd, fd, 30000 - done, done, 80000 + done)
    os.close(fd)
    same(get('a'), pattern(100000)[:80000] + pattern(100000)[:30000])


@check
def statvfs():
    v = os.statvfs('.')
    assert v.f_bavail > 0 and v.f_namemax >= 255, v


@check
def odd_names():
    names = [b'a b', b'-rf', b"quote'\"", b'back\\slash', b'%2F', b'%', b'#?&+=;:@', '한국어 파일'.encode(), '中文'.encode(),
             'é'.encode(), 'e\u0301'.encode(), b'~', b'.hidden', b'...', b'trailing ', b' leading', b'trailing.', b'*', b'CON',
             b'a' * 255, '中'.encode() * 85]
    for k, name in enumerate(names):
        put(name, b'%d' % k)
    same(sorted(os.listdir(b'.')), sorted(names))
    for k, name in enumerate(names):
        same(get(name), b'%d' % k)
        os.rename(name, b'x')
        os.rename(b'x', name)
    same(sorted(os.listdir(b'.')), sorted(names))


@check
def names_which_only_show_escaped():
    # Whole or not at all: such a name is refused, or it is what was asked for.
    for name in (b'new\nline', b'tab\t', b'\xff\xfe invalid', b'\x01\x7f'):
        try:
            put(name, b'x')
        except OSError as e:
            assert e.errno in (errno.EINVAL, errno.EILSEQ), e
            same(os.listdir(b'.'), [])
        else:
            same(os.listdir(b'.'), [name])
            os.unlink(name)


@check
def many_descriptors_on_one_file():
    fds = [os.open('f', os.O_RDWR | os.O_CREAT) for _ in range(100)]
    for k, fd in enumerate(fds):
        os.pwrite(fd, b'%02d' % k, k * 2)
    for fd in fds:
        same(os.pread(fd, 1000, 0), b''.join(b'%02d' % k for k in range(100)))
        os.close(fd)
    same(len(get('f')), 200)


@check
def direct_and_buffered_agree():
    # O_WRONLY opens bypass the page cache: who has it must see the new bytes.
    put('f', pattern(100000))
    r = os.open('f', os.O_RDONLY)
    same(os.pread(r, 200000, 0), pattern(100000))
    w = os.open('f', os.O_WRONLY)
    os.pwrite(w, b'fresh', 40000)
    same(os.pread(r, 5, 40000), b'fresh')
    m = mmap.mmap(r, 100000, prot=mmap.PROT_READ)
    same(m[40000:40005], b'fresh')
    os.pwrite(w, b'FRESH', 40000)
    same(m[40000:40005], b'FRESH')
    os.ftruncate(w, 40002)
    same(os.pread(r, 10, 40000), b'FR')
    same(os.fstat(r).st_size, 40002)
    m.close()
    os.close(w)
    os.close(r)


def calls(base):
    bad = 0
    os.mkdir(base)
    for function in CHECKS:
        name = function.__name__.replace('_', ' ')
        here = os.path.join(base, function.__name__)
        try:
            os.mkdir(here)
            os.chdir(here)
            function()
            print('ok', name, flush=True)
        except Exception as e:
            where = traceback.extract_tb(e.__traceback__)
            line = next((f for f in where if f.name == function.__name__), where[-1])
            print(f'not ok {name}: line {line.lineno}: {" ".join(str(e).split())[:300]}', flush=True)
        os.chdir('/')
    import shutil
    try:
        shutil.rmtree(base)
        print('ok all of it is removed again')
    except OSError as e:
        print('not ok all of it is removed again:', e)


if __name__ == '__main__':
    if sys.argv[1] != 'calls':
        sys.exit(f'unknown argument {sys.argv[1]}')
    calls(sys.argv[2])
