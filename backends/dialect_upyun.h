/* What the two halves of the Upyun dialect share: requests in dialect_upyun.c, answers in
 * upyun_answers.c. */
#pragma once

#include <string.h>

#include "dialect.h"

/* What Upyun has no place for goes into its user metadata under names of ours:
 *   objmig-HEADER     a standard header; content-type too where an object is copied, because only an
 *                     upload sets the real one
 *   objmig-meta-NAME  user metadata whose names mean something there ("ttl" deletes the object after
 *                     so many days, "secret" hides it), or that look like these */
#define UPYUN_META "x-upyun-meta-"
#define UPYUN_OURS "objmig-"

static inline bool upyun_is_dir(const char *key)
{
    return key[0] != '\0' && key[strlen(key) - 1] == '/';
}

/* The MD5 of a body as it is sent: what is given, else computed. */
void upyun_md5(const uint8_t *md5, const void *data, size_t len, char ret[33]);
int upyun_parse(const struct dialect_site *site, const struct dialect_call *call,
                const struct dialect_answer *a, struct dialect_page *page, struct errinfo *reterr);
void upyun_classify(const struct dialect_site *site, const struct dialect_call *call,
                    const struct dialect_answer *a, struct errinfo *ret);
