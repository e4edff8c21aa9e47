/* Private to the local driver: a directory as a bucket. posix.c has the operations, posix_path.c
 * names, temporary files and attributes, posix_list.c lists, posix_mp.c multipart uploads. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "backend.h"
#include "buf.h"
#include "mem.h"
#include "sync.h"
#include "walk.h"

/* Our own directory below the root. names.c never writes this name (a key of that name is escaped),
 * so no key leads here. */
#define LOCAL_OURS ".objmig"
#define LOCAL_META_XATTR "user.objmig.meta"
#define LOCAL_STRIPES 64
#define LOCAL_FOLDER_TRIES 100 /* empty folders may be removed while something is put into them */
#define LOCAL_ESCAPED_SLASH "^2F" /* the name of the empty component */

struct local_upload;

/* Mutations of one key take turns from the check of a condition to the rename. */
struct local_stripe {
    struct mutex lock;
    uint64_t last_key;          /* lock: hash of the last key published here … */
    struct timespec last_ctime; /* lock: … and that version's ctime */
};

struct local {
    struct be be;
    int root;   /* O_PATH of the directory; constant */
    char *path; /* as configured */
    char *identity;
    uint64_t id; /* random, part of temporary names */
    struct local_stripe stripes[LOCAL_STRIPES];
    struct mutex lock; /* RANK_STORE, never with a stripe; all below */
    int tmp;           /* .objmig/tmp once something was written, else -1 */
    uint64_t next_id;
    struct local_upload *uploads;
    struct walks walks; /* suspended lists */
};

static inline struct local *local_of(struct be *be)
{
    return CONTAINER_OF(be, struct local, be);
}

/* --- posix_path.c --- */

/* openat2 below `dir`: no symbolic link, "..", or mount magic leads out. 0 or more, or -errno. */
int local_open_at(int dir, const char *path, int flags, mode_t mode);
/* Opens what an O_PATH descriptor names, which was looked at and is no FIFO, socket or device. */
int local_reopen(int path_fd, int flags);

/* The path of a key below the root; of "dir/", that of its content (see local_is_marker). Foreign
 * trees hold names that no escaping produces (control characters, bytes that are not UTF-8): such a
 * name stands for the key spelled the same, as long as the escaped name does not exist. 0 or a
 * completed failure of op. */
int local_path_of_key(struct local *l, struct be_op *op, const char *key, struct buf *ret_path);
bool local_is_marker(const char *key); /* ends in '/' */
/* The same text of a path: its last name, and the path before it ("." when there is none), cut in
 * place. */
const char *local_split(struct buf *path, const char **ret_dir);
/* Finds the object of a key in its directory: 1 and its name, 0 and the name to make, or -errno
 * (-EISDIR when directories have both names). `name` is its plain name. */
int local_locate(int parent, const char *name, const char *key, struct buf *ret_name,
                 struct stat *ret_st);
/* Names in a listing that are ours: the private directory, temporary files. */
bool local_is_hidden(const char *name, bool at_root);

/* An object found on disk. */
struct local_file {
    int fd; /* O_PATH */
    struct stat st;
};
void local_file_fini(struct local_file *f);
/* 0, or op failed: ERR_ABSENT for whatever cannot be an object there. */
int local_find(struct local *l, struct be_op *op, const char *key, struct local_file *ret);

void local_etag(const struct stat *st, char ret[BE_ETAG_MAX]);
void local_object(const struct stat *st, struct be_object *ret); /* etag, size, mtime */
bool local_same_version(const struct stat *a, const struct stat *b);

/* Metadata taken apart: what a file system keeps itself, and the rest. */
struct local_attrs {
    bool has_mode, has_uid, has_gid, has_mtime, has_rdev;
    mode_t mode; /* with type */
    uid_t uid;
    gid_t gid;
    dev_t rdev;
    struct timespec mtime;
    struct kvlist rest;
};
void local_attrs_fini(struct local_attrs *a);
void local_attrs_parse(const struct kvlist *meta, struct local_attrs *ret);
/* Sets them on a file no key names yet, or on a directory. fd may be O_PATH of anything. 0 or op
 * failed. */
int local_attrs_apply(struct be_op *op, int fd, const struct local_attrs *a);
/* Adds what the file system itself keeps, under the names of metadata. */
void local_attrs_of(const struct stat *st, struct kvlist *ret);
/* Reads them back, with the rest. fd as found. 0 or op failed. */
int local_attrs_load(struct be_op *op, const struct local_file *f, struct kvlist *ret);

/* A file in the making. */
struct local_temp {
    struct local *l;
    int dir;       /* .objmig/tmp, or the target's parent when that is on another file system */
    int fd;        /* -1 for what is not a regular file */
    char name[80]; /* "" when there is nothing to remove */
};
#define LOCAL_TEMP_INIT                                                                            \
    {                                                                                              \
        .dir = -1, .fd = -1                                                                        \
    }
void local_temp_fini(struct local_temp *t); /* removes it unless it was published */
/* Names a temporary beside `parent` (same file system); creates nothing but .objmig/tmp. 0 or op
 * failed. */
int local_temp_name(struct local *l, struct be_op *op, int parent, struct local_temp *ret);
int local_temp_create(struct local_temp *t, struct be_op *op);
/* Opens the private directory's `name`, making it when asked; a descriptor or -errno. */
int local_ours(struct local *l, const char *name, bool make);

/* fsync of a directory, where the file system has that. 0 or -errno. */
int local_sync_dir(int fd);
/* Opens the directory of that path, making what is missing. A descriptor fit for fsync, or op
 * failed (-errno). */
int local_make_dirs(struct local *l, struct be_op *op, const char *path);

/* Where a key about to be written goes. */
struct local_target {
    struct buf path; /* backs the pointers */
    const char *name;
    int parent;
};
void local_target_fini(struct local_target *t);
int local_target_open(struct local *l, struct be_op *op, struct local_target *ret);
/* Moves a complete, synced temporary to its key if the conditions hold, and makes the name durable.
 * 0 or op failed. */
int local_publish(struct local_temp *t, struct be_op *op, struct local_target *to,
                  const char *if_match, bool if_absent, struct be_object *ret);
struct local_stripe *local_lock_key(struct local *l, const char *key);
int local_fail_changed(struct be_op *op, const char *key);

int local_write_all(struct be_op *op, int fd, const void *data, size_t len, uint64_t offset);
/* Copies a range between files by the cheapest way the kernel has. *ret_crc may be NULL; 0 or op
 * failed. */
int local_copy_range(struct be_op *op, int from, uint64_t from_offset, int to, uint64_t to_offset,
                     uint64_t len);
/* The version of a source that must be read. 0 or op failed. *ret_fd can be read; regular files
 * only, else -1. */
int local_open_source(struct be_op *op, struct be *src, const char *key, const char *etag,
                      const char *version_id, struct local_file *ret, int *ret_fd);

/* --- posix_list.c, posix_mp.c --- */

int local_list(struct be_op *op);

int local_mp_begin(struct be_op *op);
int local_mp_part(struct be_op *op);
int local_mp_commit(struct be_op *op);
int local_mp_abort(struct be_op *op);
int local_mp_parts(struct be_op *op);
int local_mp_uploads(struct be_op *op);
void local_uploads_free(struct local *l);
