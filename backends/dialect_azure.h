/* What the files of the Azure Blob dialect share: dialect_azure.c (settings, names), azure_sign.c,
 * azure_build.c (requests), azure_parse.c (answers), azure_errors.c (refusals),
 * azure_batch.c (removals).
 *
 * An upload is nothing but blocks that are not committed yet, and the service keeps those of all
 * uploads to one name together. So its id is invented here, and begins the id of each of its
 * blocks:
 *
 *     objmig-  SSSSSSSS RRRRRRRRRRRR   NNNNN         MD5 of the bytes, or x and of what was copied
 *              the upload: Unix time   the part      32 digits
 *              and random bits, hex    decimal
 *
 * 64 characters, all the service takes, and the same for all blocks, as it wants. What stands behind
 * the part's number is the part's etag: a commit names the bytes it is made of, and no others. */
#pragma once

#include "dialect.h"

#define AZURE_VERSION "2021-12-02"
#define AZURE_UPLOAD_LEN 20
#define AZURE_ETAG_LEN 32
#define AZURE_BLOCK_LEN 64

struct azure {
    struct dialect_site site; /* first */
    char *account;            /* in paths and signatures; the credentials' id may be renewed, this not */
    char *tier;               /* of new objects, as the service spells it; "" = the account's */
    char *scope;              /* encryption scope of new objects; "" = the container's */
};

static inline const struct azure *azure_of(const struct dialect_site *site)
{
    return (const struct azure *)(const void *)site;
}

/* Hot, Cool, Cold or Archive as the service spells it, "" for "" and STANDARD; NULL: is none. */
const char *azure_tier(const char *s);

/* The encryption scope of "scope:NAME", "" for "" and for AES256, which all blobs have; NULL: unknown. */
const char *azure_scope(const char *s);

/* User metadata names are C identifiers there, whose case does not count. What else there is, and an
 * '_' that could be taken for such, is written as '_' and two hexadecimal digits. */
int azure_name_encode(const char *name, struct buf *ret);
char *azure_name_decode(const char *name); /* undoes exactly that; any other name, in lower case */
/* Where "expires" is kept, for which the service has no property. */
#define AZURE_META "x-ms-meta-"
#define AZURE_EXPIRES "_expires"

/* The block's id, not yet in base64. False when it cannot be one: no upload of ours, no part. */
bool azure_block_id(const char *upload_id, unsigned number, const char *etag,
                    char ret[AZURE_BLOCK_LEN + 1]);
/* The reverse, of what the service lists: false for what is not ours. */
bool azure_block_parse(const char *base64, char ret_upload[AZURE_UPLOAD_LEN + 1],
                       struct be_part_id *ret);
/* The etag of a part: of its bytes, or of the range it is a copy of. */
void azure_part_etag(const struct be_part *op, char ret[AZURE_ETAG_LEN + 1]);

/* A copy is one request only where nothing but metadata is replaced: Copy Blob takes the standard
 * headers from the source, and its metadata too when none is sent. Else it is first made without
 * its metadata, so that nobody takes it for complete, which comes last. On one and the same blob it
 * is only the last of these. */
enum azure_copy {
    AZURE_COPY_WHOLE,      /* Copy Blob with the metadata */
    AZURE_COPY_BARE,       /* Copy Blob, metadata to follow */
    AZURE_COPY_PROPERTIES, /* Set Blob Properties: the standard headers */
    AZURE_COPY_METADATA,   /* Set Blob Metadata */
};
enum azure_copy azure_copy_step(const struct dialect_site *site, const struct dialect_call *call,
                                bool *ret_more);
bool azure_copies_itself(const struct dialect_site *site, const struct dialect_call *call);

int azure_build(const struct dialect_site *site, const struct dialect_call *call,
                struct dialect_request *r, struct errinfo *reterr);
int azure_parse(const struct dialect_site *site, const struct dialect_call *call,
                const struct dialect_answer *a, struct dialect_page *page, struct errinfo *reterr);
/* The account key's bytes: the caller wipes and frees them. ERR_INVALID when it is not base64. */
int azure_decode_key(const struct dialect_site *site, const struct secret *secret, uint8_t **ret,
                     size_t *ret_n, struct errinfo *reterr);
int azure_sign(const struct dialect_site *site, struct dialect_request *r, int64_t wall_s,
               struct errinfo *reterr);
/* azure_batch.c: BE_REMOVE_MANY. build may fail for want of memory only; body is called by sign, with what signs one path: it
 * writes the target (path and query) and the headers of that request. */
int azure_batch_build(const struct dialect_site *site, const struct dialect_call *call,
                      struct dialect_request *r);
typedef int azure_batch_sign(void *ctx, const char *path, struct buf *target, struct kvlist *headers);
int azure_batch_body(struct dialect_request *r, azure_batch_sign *sign, void *ctx);
int azure_batch_parse(const struct dialect_site *site, const struct dialect_call *call,
                      const struct dialect_answer *a, struct errinfo *reterr);
void azure_classify(const struct dialect_site *site, const struct dialect_call *call,
                    const struct dialect_answer *a, struct errinfo *ret);
void *azure_stream_new(const struct dialect_site *site, const struct dialect_call *call);
int azure_stream_feed(void *stream, const void *p, size_t n);
void azure_stream_free(void *stream);

/* Where a list goes on: the service's marker, and the start_after that it knows nothing of. */
char *azure_cursor(const char *after, size_t after_len, const char *marker);
bool azure_cursor_parse(const char *cursor, const char **ret_after, size_t *ret_after_len,
                        const char **ret_marker);

/* Between the requests of one BE_MP_UPLOADS: "MARKER KEY KEY …", each percent-encoded. Pages of
 * blobs are looked through for those that may have blocks, and then the blocks of each are listed. */
char *azure_state_marker(const char *state);
char *azure_state_key(const char *state);  /* the first, NULL when none is left */
char *azure_state_rest(const char *state); /* without it; NULL when nothing is left to ask for */
