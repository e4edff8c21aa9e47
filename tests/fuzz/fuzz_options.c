/* The -o text of a mount, as given or as the journal recorded it: the whole input, cut at a NUL.
 *
 * What holds: a fault is one line; the text that was kept, read again, means the same. */
#include "fuzz.h"

#include "options.h"

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    ENSURE(setenv("HOME", "/nonexistent", 1) == 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_in in = fuzz_begin(data, size);
    CLEANUP(mem_freep) char *text = fuzz_rest(&in);
    struct options o, again;
    struct errinfo err = {0};
    if (options_parse_text(text, &o, &err) < 0) {
        fuzz_told(&err);
        return 0;
    }
    CLEANUP(kv_fini) struct kvlist first = {0};
    CLEANUP(kv_fini) struct kvlist second = {0};
    ENSURE(options_parse_text(o.text, &again, &err) == 0);
    options_effective(&o, &first);
    options_effective(&again, &second);
    ENSURE(kv_equal(&first, &second) && kv_equal(&o.given, &again.given) &&
           kv_equal(&o.url, &again.url));
    for (size_t i = 0; i < o.given.n; i++) {
        const char *value = kv_get(&first, o.given.items[i].name);
        ENSURE(value && strcmp(value, o.given.items[i].value) == 0);
    }
    ENSURE(o.cache_dir && o.cache_dir[0] == '/');
    options_fini(&o);
    options_fini(&again);
    return 0;
}
