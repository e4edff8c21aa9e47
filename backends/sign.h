/* Request signatures as pure functions over a description of what will be sent. Nothing here reads
 * a clock, a file or a global, so the protocol vectors test every intermediate text.
 *
 * The path is the encoded one, exactly as it stands in the request line; the query is decoded; the
 * headers are all that will be sent, "host" included. What a server recomputes it recomputes from
 * the wire: sign last, change nothing after. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buf.h"

struct sign_req {
    const char *method;
    const char *path; /* encoded, begins with '/' */
    const struct kvlist *query;
    const struct kvlist *headers;
};

struct sign_key {
    const char *id;
    const char *secret;
    size_t secret_len;
};

/* What a signature is made of; sign_out_fini frees. canonical is "" for the signatures that have
 * none (V2). */
struct sign_out {
    struct buf canonical, to_sign;
    struct buf header_list, query_list; /* names that took part, joined with ';' */
    char signature[65];                 /* as it is written: hex, or base64 for V2 */
    struct buf authorization;           /* the header's value */
};
void sign_out_fini(struct sign_out *o);

/* The family of AWS Signature Version 4. */
struct sign_v4_scheme {
    const char *algorithm;  /* AWS4-HMAC-SHA256 */
    const char *key_prefix; /* AWS4 */
    const char *service;    /* s3 */
    const char *terminator; /* aws4_request */
    /* NULL: every header is signed, and the signature lists them all. Else (OSS) those of this
     * prefix, Content-Type, Content-MD5 and, when they are sent, the additional ones, which alone
     * are listed; and a parameter without a value has no '='. */
    const char *vendor_prefix;
    const char *const *additional; /* NULL-terminated */
};
extern const struct sign_v4_scheme sign_v4_aws, sign_v4_goog, sign_v4_oss;

/* date is YYYYMMDDTHHMMSSZ (also sent as x-amz-date), payload_hash the value of
 * x-amz-content-sha256. Headers that proxies and HTTP libraries touch (see sign.c) are never signed.
 * OSS takes the path with the bucket in front, whatever stands in the request line. 0 or -ENOMEM. */
int sign_v4(const struct sign_v4_scheme *scheme, const struct sign_req *req,
            const struct sign_key *key, const char *region, const char *date,
            const char *payload_hash, struct sign_out *out);

/* The family of AWS Signature Version 2: HMAC-SHA1 over a few header lines and the resource. */
struct sign_v2_scheme {
    const char *label;               /* "AWS": Authorization: AWS id:signature */
    const char *vendor_prefix;       /* "x-amz-": these headers are signed */
    const char *vendor_date;         /* "x-amz-date": when sent, the Date line is empty */
    const char *const *subresources; /* sorted, NULL-terminated: query names that are signed */
    bool decoded;                    /* the path stands in the text as the key is, not encoded */
};
extern const struct sign_v2_scheme sign_v2_aws, sign_v2_oss, sign_v2_kss;

/* bucket: prepended to the path as "/bucket" for virtual-host requests; NULL for path style.
 * date_line: NULL takes the headers' date; a presigned URL gives its Expires. */
int sign_v2(const struct sign_v2_scheme *scheme, const struct sign_req *req,
            const struct sign_key *key, const char *bucket, const char *date_line,
            struct sign_out *out);

/* Tencent COS: key_time is "start;end" in Unix seconds. All query parameters are signed, and of the
 * headers those COS allows; empty values are left out. */
int sign_cos(const struct sign_req *req, const struct sign_key *key, const char *key_time,
             struct sign_out *out);

/* Azure SharedKey: key->id is the account, key->secret its key, decoded. All x-ms- headers and query
 * parameters are signed. body_len stands for Content-Length, which is libcurl's to write. */
int sign_azure(const struct sign_req *req, const struct sign_key *key, uint64_t body_len,
               struct sign_out *out);
/* A service SAS: only out->to_sign and out->signature. fields are the SAS's own query parameters
 * without sig; resource is "/blob/account/container" and for a blob "/" and its name, not
 * encoded. */
int sign_azure_sas(const struct kvlist *fields, const char *resource, const struct sign_key *key,
                   struct sign_out *out);

/* Baidu: bce-auth-v1. date is YYYY-MM-DDTHH:MM:SSZ (also sent as x-bce-date). All query parameters
 * are signed, and of the headers those Baidu signs by default; empty values are left out. */
int sign_bce(const struct sign_req *req, const struct sign_key *key, const char *date,
             unsigned valid_s, struct sign_out *out);

/* RFC 7519 with RS256: the token whose header and claims are these JSON texts. pem: an unencrypted
 * private RSA key. 0, -EINVAL when it is none, -ENOMEM. */
int sign_jwt(const char *header, const char *claims, const char *pem, size_t pem_len,
             struct buf *ret);

/* Upyun: the method, the path and query as they are sent, the date as it is sent, and the Content-MD5 if one is sent (else
 * ""). The key's secret is the operator's password; its MD5 signs. */
int sign_upyun(const char *method, const char *target, const char *date, const char *content_md5,
               const struct sign_key *key, struct sign_out *out);

/* Qiniu. target is the request line's: path and query as they are sent. The token of a request is what Authorization says;
 * host and content-type are among the headers. */
int sign_qiniu(const char *method, const char *target, const struct kvlist *headers,
               const void *body, size_t len, const struct sign_key *key, struct sign_out *out);
/* The token of an upload policy, and the one that ends a download URL (which has its ?e=DEADLINE already): bare, without
 * "UpToken " and "&token=". */
int sign_qiniu_upload(const char *policy, size_t len, const struct sign_key *key,
                      struct sign_out *out);
int sign_qiniu_url(const char *url, const struct sign_key *key, struct sign_out *out);

/* "20231114T221320Z", "2023-11-14T22:13:20Z" and "Tue, 14 Nov 2023 22:13:20 GMT" of a Unix time. */
#define SIGN_DATE_SIZE 40
void sign_date_iso(int64_t unix_s, char ret[SIGN_DATE_SIZE]);
void sign_date_utc(int64_t unix_s, char ret[SIGN_DATE_SIZE]);
void sign_date_http(int64_t unix_s, char ret[SIGN_DATE_SIZE]);
