/* Random operations on two files, each checked against what memory says they hold.
 *
 *   exerciser [-s SEED] [-n OPS] [-l MAXLEN] [-f N] [-v] FILE FILE
 *
 * Every operation follows from the seed: a failure prints the last operations on that file, and -n N with the same seed stops
 * after the first N of them. -f N: one operation in N is an fsync (a request to the provider; 0: none). */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 2
#define LOG_LINES 64

struct subject {
    const char *path;
    int fd;
    size_t size;
    unsigned char *want;
};

static struct subject subjects[FILES];
static size_t max_len = 1 << 20;
static uint64_t rng_state;
static unsigned long op_index, fsync_every = 50;
static bool verbose;
static char lines[LOG_LINES][160];
static unsigned char *scratch;

/* splitmix64 */
static uint64_t rnd(void)
{
    uint64_t z = rng_state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return n == 0 ? 0 : (size_t)(rnd() % n);
}

/* Short ones, page-sized ones, long ones; often at the edge of a page. */
static size_t some_length(void)
{
    switch (below(4)) {
    case 0:
        return 1 + below(64);
    case 1:
        return 1 + below(9000);
    case 2:
        return 4096 * (1 + below(8));
    default:
        return 1 + below(max_len / 4);
    }
}

static size_t some_offset(size_t limit)
{
    size_t o = below(limit + 1);

    return below(3) == 0 ? o & ~(size_t)4095 : o;
}

__attribute__((format(printf, 1, 2))) static void note(const char *fmt, ...)
{
    va_list ap;
    char *line = lines[op_index % LOG_LINES];
    int n = snprintf(line, sizeof(lines[0]), "%lu: ", op_index);

    va_start(ap, fmt);
    (void)vsnprintf(line + n, sizeof(lines[0]) - (size_t)n, fmt, ap);
    va_end(ap);
    if (verbose) {
        puts(line);
        fflush(stdout);
    }
}

__attribute__((noreturn)) static void stop(const char *what, int err)
{
    printf("operation %lu failed: %s%s%s\n", op_index, what, err != 0 ? ": " : "", err != 0 ? strerror(err) : "");
    for (unsigned long k = op_index + 1 < LOG_LINES ? 0 : op_index + 1 - LOG_LINES; k <= op_index; k++) {
        puts(lines[k % LOG_LINES]);
    }
    for (int k = 0; k < FILES; k++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "exerciser.want.%d", k);
        FILE *f = fopen(name, "we");
        if (f != NULL) {
            (void)fwrite(subjects[k].want, 1, subjects[k].size, f);
            (void)fclose(f);
        }
    }
    exit(1);
}

static void compare(const struct subject *s, const unsigned char *got, size_t offset, size_t len, const char *how)
{
    for (size_t k = 0; k < len; k++) {
        if (got[k] != s->want[offset + k]) {
            size_t bad = 0;
            for (size_t j = k; j < len; j++) {
                bad += got[j] != s->want[offset + j];
            }
            char text[300];
            (void)snprintf(text, sizeof(text), "%s of %s: at %zu (of %zu..%zu) is 0x%02x, not 0x%02x; %zu bytes are wrong; size %zu",
                           how, s->path, offset + k, offset, offset + len, got[k], s->want[offset + k], bad, s->size);
            stop(text, 0);
        }
    }
}

static void check_size(const struct subject *s)
{
    struct stat st;

    if (fstat(s->fd, &st) < 0) {
        stop("fstat", errno);
    }
    if ((size_t)st.st_size != s->size) {
        char text[200];
        (void)snprintf(text, sizeof(text), "the size of %s is %lld, not %zu", s->path, (long long)st.st_size, s->size);
        stop(text, 0);
    }
}

static void reopen(struct subject *s, int flags)
{
    if (s->fd >= 0 && close(s->fd) < 0) {
        stop("close", errno);
    }
    s->fd = open(s->path, O_RDWR | O_CLOEXEC | flags, 0644);
    if (s->fd < 0) {
        stop("open", errno);
    }
    check_size(s);
}

static void grow_to(struct subject *s, size_t size)
{
    if (size > s->size) {
        memset(s->want + s->size, 0, size - s->size);
        s->size = size;
    }
}

static void fill(unsigned char *p, size_t len)
{
    unsigned char start = (unsigned char)rnd();

    for (size_t k = 0; k < len; k++) {
        p[k] = (unsigned char)(start + k + (k >> 8));
    }
}

static void write_full(int fd, const unsigned char *p, size_t len, size_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);
        if (n <= 0) {
            stop("pwrite", errno);
        }
        p += n;
        len -= (size_t)n;
        offset += (size_t)n;
    }
}

static void read_check(struct subject *s, int fd, size_t offset, size_t len, const char *how)
{
    size_t done = 0, want = offset >= s->size ? 0 : len < s->size - offset ? len : s->size - offset;

    while (done < len) {
        ssize_t n = pread(fd, scratch + done, len - done, (off_t)(offset + done));
        if (n < 0) {
            stop(how, errno);
        }
        if (n == 0) {
            break;
        }
        done += (size_t)n;
    }
    if (done != want) {
        char text[200];
        (void)snprintf(text, sizeof(text), "%s of %s: %zu bytes for %zu at %zu, size %zu", how, s->path, done, want,
                       offset, s->size);
        stop(text, 0);
    }
    compare(s, scratch, offset, want, how);
}

/* ---- operations ---- */

static void op_read(struct subject *s)
{
    size_t offset = some_offset(s->size), len = some_length();

    note("read %s %zu+%zu", s->path, offset, len);
    read_check(s, s->fd, offset, len, "read");
}

static void op_write(struct subject *s)
{
    size_t offset = some_offset(below(8) == 0 ? max_len - 1 : s->size), len = some_length();

    if (offset >= max_len) {
        offset = max_len - 1;
    }
    len = len < max_len - offset ? len : max_len - offset;
    note("write %s %zu+%zu (size %zu)", s->path, offset, len, s->size);
    grow_to(s, offset);
    fill(scratch, len);
    grow_to(s, offset + len);
    memcpy(s->want + offset, scratch, len);
    write_full(s->fd, scratch, len, offset);
}

/* Through a descriptor of its own, which only writes: such opens take another way through the mount. */
static void op_write_only(struct subject *s)
{
    size_t len = some_length(), offset = some_offset(s->size);
    bool append = below(2) == 0;

    offset = append ? s->size : offset;
    if (offset >= max_len) {
        return;
    }
    len = len < max_len - offset ? len : max_len - offset;
    note("%s %s %zu+%zu", append ? "append" : "write only", s->path, offset, len);
    int fd = open(s->path, O_WRONLY | O_CLOEXEC | (append ? O_APPEND : 0));
    if (fd < 0) {
        stop("open", errno);
    }
    fill(scratch, len);
    grow_to(s, offset + len);
    memcpy(s->want + offset, scratch, len);
    write_full(fd, scratch, len, offset);
    if (close(fd) < 0) {
        stop("close", errno);
    }
}

static void op_truncate(struct subject *s)
{
    size_t size = below(10) == 0 ? 0 : some_offset(below(3) == 0 ? max_len : s->size);
    bool by_path = below(2) == 0;

    note("truncate %s from %zu to %zu by %s", s->path, s->size, size, by_path ? "path" : "descriptor");
    if ((by_path ? truncate(s->path, (off_t)size) : ftruncate(s->fd, (off_t)size)) < 0) {
        stop("truncate", errno);
    }
    grow_to(s, size);
    s->size = size;
}

static void op_mmap(struct subject *s, bool write)
{
    if (s->size == 0) {
        return;
    }
    size_t offset = below(s->size) & ~(size_t)4095, len = some_length();
    len = len < s->size - offset ? len : s->size - offset;
    note("mmap %s %s %zu+%zu", write ? "write" : "read", s->path, offset, len);
    unsigned char *p = mmap(NULL, len, write ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, s->fd, (off_t)offset);
    if (p == MAP_FAILED) {
        stop("mmap", errno);
    }
    compare(s, p, offset, len, "mmap read");
    if (write) {
        size_t at = below(len), n = 1 + below(len - at);
        fill(s->want + offset + at, n);
        memcpy(p + at, s->want + offset + at, n);
        if (below(2) == 0 && msync(p, len, MS_SYNC) < 0) {
            stop("msync", errno);
        }
    }
    if (munmap(p, len) < 0) {
        stop("munmap", errno);
    }
}

static void op_reopen(struct subject *s)
{
    note("reopen %s", s->path);
    reopen(s, 0);
}

/* Everything anew, sometimes under a name that was another's. */
static void op_replace(struct subject *s)
{
    size_t len = below(2) == 0 ? some_length() : below(max_len);
    bool by_rename = below(2) == 0;
    char other[4096];

    note("replace %s with %zu bytes%s", s->path, len, by_rename ? " by rename" : "");
    (void)snprintf(other, sizeof(other), "%s%s", s->path, by_rename ? ".new" : "");
    int fd = open(other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        stop("open", errno);
    }
    fill(s->want, len);
    s->size = len;
    write_full(fd, s->want, len, 0);
    if (close(fd) < 0) {
        stop("close", errno);
    }
    if (by_rename) {
        if (rename(other, s->path) < 0) {
            stop("rename", errno);
        }
        reopen(s, 0);
    }
}

static void op_punch(struct subject *s)
{
    if (s->size == 0) {
        return;
    }
    size_t offset = some_offset(s->size - 1), len = some_length();

    note("punch %s %zu+%zu", s->path, offset, len);
    if (fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) < 0) {
        stop("fallocate", errno);
    }
    if (offset < s->size) {
        memset(s->want + offset, 0, len < s->size - offset ? len : s->size - offset);
    }
}

static void op_copy(struct subject *from, struct subject *to)
{
    if (from->size == 0) {
        return;
    }
    bool whole = below(3) == 0;
    size_t in = whole ? 0 : some_offset(from->size - 1), out = whole ? 0 : some_offset(to->size);
    size_t len = whole ? from->size : some_length();

    out = out < max_len ? out : max_len - 1;
    len = len < from->size - in ? len : from->size - in;
    len = len < max_len - out ? len : max_len - out;
    note("copy %s %zu+%zu to %s %zu", from->path, in, len, to->path, out);
    if (whole) {
        if (ftruncate(to->fd, 0) < 0) {
            stop("ftruncate", errno);
        }
        to->size = 0;
    }
    loff_t a = (loff_t)in, b = (loff_t)out;
    for (size_t left = len; left > 0;) {
        ssize_t n = copy_file_range(from->fd, &a, to->fd, &b, left, 0);
        if (n <= 0) {
            stop("copy_file_range", n < 0 ? errno : EIO);
        }
        left -= (size_t)n;
    }
    grow_to(to, out + len);
    memmove(to->want + out, from->want + in, len);
}

static void op_fsync(struct subject *s)
{
    note("fsync %s", s->path);
    if (fsync(s->fd) < 0) {
        stop("fsync", errno);
    }
}

static void op_seek(struct subject *s)
{
    if (s->size == 0) {
        return;
    }
    size_t offset = some_offset(s->size - 1);
    note("seek %s %zu", s->path, offset);
    off_t hole = lseek(s->fd, (off_t)offset, SEEK_HOLE), data = lseek(s->fd, (off_t)offset, SEEK_DATA);
    if (hole < 0 || (data < 0 && errno != ENXIO)) {
        stop("lseek", errno);
    }
    /* What is called a hole must be zeros. */
    size_t end = data < 0 ? s->size : (size_t)data;
    for (size_t k = offset; k < end; k++) {
        if (s->want[k] != 0) {
            stop("SEEK_DATA went over data", 0);
        }
    }
    if ((size_t)hole > s->size) {
        stop("SEEK_HOLE went beyond the end", 0);
    }
}

static void one(void)
{
    size_t which = below(FILES);
    struct subject *s = &subjects[which];

    if (fsync_every > 0 && below(fsync_every) == 0) {
        op_fsync(s);
        return;
    }
    switch (below(20)) {
    case 0: case 1: case 2: case 3:
        op_read(s);
        break;
    case 4: case 5: case 6: case 7:
        op_write(s);
        break;
    case 8:
        op_write_only(s);
        break;
    case 9: case 10:
        op_truncate(s);
        break;
    case 11: case 12:
        op_mmap(s, false);
        break;
    case 13: case 14:
        op_mmap(s, true);
        break;
    case 15:
        op_reopen(s);
        break;
    case 16:
        op_punch(s);
        break;
    case 17:
        if (below(3) == 0) {
            op_replace(s);
        } else {
            op_seek(s);
        }
        break;
    default:
        op_copy(s, &subjects[(which + 1) % FILES]);
    }
    check_size(s);
}

int main(int argc, char **argv)
{
    unsigned long ops = 1000, seed = 1;
    int opt;

    while ((opt = getopt(argc, argv, "s:n:l:f:v")) != -1) {
        switch (opt) {
        case 's':
            seed = strtoul(optarg, NULL, 0);
            break;
        case 'n':
            ops = strtoul(optarg, NULL, 0);
            break;
        case 'l':
            max_len = strtoul(optarg, NULL, 0);
            break;
        case 'f':
            fsync_every = strtoul(optarg, NULL, 0);
            break;
        case 'v':
            verbose = true;
            break;
        default:
            return 2;
        }
    }
    if (argc - optind != FILES || max_len < 65536) {
        (void)fprintf(stderr, "usage: exerciser [-s SEED] [-n OPS] [-l MAXLEN (at least 65536)] [-f N] [-v] FILE FILE\n");
        return 2;
    }
    rng_state = seed;
    scratch = malloc(max_len);
    if (scratch == NULL) {
        return 2;
    }
    for (int k = 0; k < FILES; k++) {
        subjects[k].path = argv[optind + k];
        subjects[k].fd = -1;
        subjects[k].want = calloc(1, max_len);
        if (subjects[k].want == NULL) {
            return 2;
        }
        reopen(&subjects[k], O_CREAT | O_TRUNC);
    }
    for (op_index = 0; op_index < ops; op_index++) {
        one();
    }
    for (int k = 0; k < FILES; k++) {
        struct subject *s = &subjects[k];
        note("the whole of %s at the end", s->path);
        reopen(s, 0);
        read_check(s, s->fd, 0, max_len, "the whole");
        /* What the test compares the objects with. */
        char name[64];
        (void)snprintf(name, sizeof(name), "exerciser.want.%d", k);
        FILE *f = fopen(name, "we");
        if (f == NULL || fwrite(s->want, 1, s->size, f) != s->size || fclose(f) != 0) {
            stop("cannot write down the content", errno);
        }
        (void)close(s->fd);
        free(s->want);
    }
    free(scratch);
    printf("%lu operations, seed %lu\n", ops, seed);
    return 0;
}
