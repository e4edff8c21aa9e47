/* What drivers and backend.c share, and nobody else needs. */
#pragma once

#include "backend.h"

extern const struct be_ops be_local_ops, be_memory_ops, be_s3_ops, be_cos_ops, be_oss_ops,
    be_ks3_ops, be_azure_ops, be_gcs_ops, be_bos_ops, be_upyun_ops, be_qiniu_ops, be_http_ops;

/* Whether an operation of that kind leaves the store other than it was. */
bool be_kind_changes(enum be_kind kind);

/* Fills the common part of a driver's struct after its open, and checks what describe() says. A
 * driver opened by be_open does not call it; a wrapper that makes itself does. */
int be_init(struct be *be, const struct be_ops *ops, const struct be_env *env, const char *name,
            struct errinfo *reterr);

/* For drivers that block: run(op) happens on a worker, and op is completed with what it returns. */
void be_job_submit(struct be_op *op, int (*run)(struct be_op *op));

/* 0, or why a long operation should stop now: ERR_CANCELED, or its deadline passed (ERR_TRANSIENT,
 * -ETIMEDOUT). */
int be_op_check(struct be_op *op);

/* Sets class and provider-like code and gives the status that belongs to them: `return be_fail(op,
 * ERR_ABSENT, "NoSuchKey", "…", …)`. */
int be_fail(struct be_op *op, enum err_class cls, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* The same for a failed system call: the class follows from the errno (ENOSPC is ERR_QUOTA, EACCES
 * ERR_AUTH, …). */
int be_fail_errno(struct be_op *op, int errno_value, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* A key made fit for one line of text: control characters and quotes as \xNN, cut to fit. Returns
 * buf. */
const char *be_key_text(const char *key, char *buf, size_t size);
#define BE_KEY_TEXT 200
