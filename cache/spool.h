/* The spool: local bytes of files, one file each under DIR/tmp, named by spool id. An id is never used twice.
 *
 * What it keeps is garbage until a journal row names it: after a crash the caller compares spool_each with the rows
 * and removes the rest. Bytes written survive kill -9 as they are; a power cut only keeps what spool_sync, or an
 * spool_syncfs_tick that began after the write, has covered.
 *
 * Thread-safe; its lock (RANK_STORE) is never held over I/O. Calls on one id may run in parallel; two writes to one
 * range have the order the caller gives them. Everything here blocks on the disk: workers and FUSE threads without a
 * lock, not the engine. Descriptors are kept open in a bounded cache. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "errinfo.h"

struct spool;

/* dir must exist; DIR/tmp is made (0700) when missing and read: what it holds counts as used. cache_size bounds
 * spool_space; max_open = 0 means 512 descriptors. */
int spool_open(const char *dir, uint64_t cache_size, unsigned max_open, struct spool **ret_spool,
               struct errinfo *reterr);
void spool_close(struct spool *s); /* nothing is in use any more; NULL is fine. Files stay */

/* All of these: 0 or -errno; -ENOENT when the id has no file, -ENOSPC (also for a quota) when the disk has no room. */
int spool_create(struct spool *s, uint64_t id); /* empty; -EEXIST: another thread has made it, it can be used */
/* All of [off, off+len) is written, or -errno: then any part of it may have been. Never refuses for cache_size: that
 * bound is the caller's to keep (spool_space), and a writer may overshoot it by one request. */
int spool_write(struct spool *s, uint64_t id, const void *p, size_t len, uint64_t off);
/* Bytes read: fewer than len only at the end of the file. */
ssize_t spool_read(struct spool *s, uint64_t id, void *p, size_t len, uint64_t off);
int spool_truncate(struct spool *s, uint64_t id, uint64_t size);
/* The range reads as zeros after it, its room is given back where the file system can; the size stays. */
int spool_punch(struct spool *s, uint64_t id, uint64_t off, uint64_t len);
/* Copies bytes between two files, or two ranges of one that do not overlap (-EINVAL): shared where the file system
 * can, else by the kernel, else through memory. -EIO when the source ends before soff + len. May take long: some 64
 * MiB a call. */
int spool_copy(struct spool *s, uint64_t src, uint64_t soff, uint64_t dst, uint64_t doff,
               uint64_t len);
int spool_size(struct spool *s, uint64_t id, uint64_t *ret_size);
/* Bytes and name are on disk after it. A failure is for good: what could not be written is gone from memory. */
int spool_sync(struct spool *s, uint64_t id);
/* The name goes now, the bytes when the last call that uses them has returned. -ENOENT is success to most callers.
 * Freeing a file of many GiB takes tens of milliseconds: not on the journal thread. */
int spool_remove(struct spool *s, uint64_t id);

/* Every id on disk, in no order; for recovery. fn may call spool_remove. fn's result other than 0 ends it and is
 * returned. */
int spool_each(struct spool *s, int (*fn)(void *ctx, uint64_t id), void *ctx);
size_t spool_files(struct spool *s);

/* Looks into DIR/tmp without opening it as a spool: changes nothing, and somebody else may be using it. -ENOENT: there is
 * none. */
int spool_look(const char *dir, int (*fn)(void *ctx, uint64_t id, uint64_t size, uint64_t bytes), void *ctx);
/* How much of a file system's free room the spool may fill: it leaves 10 % of the whole. */
struct statvfs;
uint64_t spool_room(const struct statvfs *v);

uint64_t spool_used(struct spool *s); /* bytes on disk, as the file system counts blocks */
/* How many more bytes may be written: within cache_size, and leaving 10 % of the file system free. 0 = none. Cheap. `waiting`
 * of the bytes that are there do not count: their writers wait for room. */
uint64_t spool_space(struct spool *s, uint64_t waiting);
/* Little space is left, counted so: writers are to wait. Comes on below 1/16 of the whole (at most 256 MiB), or below `reserve`
 * where that is more (at most half of the whole); goes off at the sixteenth above that. */
bool spool_high(struct spool *s, uint64_t waiting, uint64_t reserve);

/* Call once a second or so, on a thread that may block: runs syncfs every 5 s, or now when somebody waits for it. Returns a
 * wall-clock time: everything written, and every file made, by calls that returned before it is on disk; 0 = nothing yet. It
 * advances also when nothing is written. After a failed syncfs it stands still for good, and spool_sync_error is -errno. */
int64_t spool_syncfs_tick(struct spool *s, bool waited_for);
/* Whether all that was written by calls that returned before this (monotonic) time is on disk; -errno after a failed syncfs.
 * *ret_wall_ns as spool_syncfs_tick would return it. */
int spool_synced_since(struct spool *s, int64_t mono_ns, int64_t *ret_wall_ns);
int spool_syncfs(struct spool *s); /* the same at once; 0 or the sticky -errno */
int spool_sync_error(struct spool *s);
