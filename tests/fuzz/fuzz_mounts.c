/* A mount table of the kernel, in which source and type are what any user of FUSE says. The whole
 * input is the file. */
#include "fuzz.h"

#include "mounts.h"

static int fd;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    fd = fuzz_file("mountinfo");
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mounts m;
    fuzz_fill(fd, data, size);
    ENSURE(mounts_read(fd, &m) == 0);
    for (size_t i = 0; i < m.n; i++) {
        const struct mount *x = &m.items[i];
        ENSURE(x->root && x->dir && x->fstype && x->source);
        const struct mount *top = mounts_at(&m, x->dir);
        ENSURE(top && top >= x && strcmp(top->dir, x->dir) == 0);
    }
    mounts_fini(&m);
    return 0;
}
