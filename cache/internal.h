/* Private structs of this layer, and the lock that guards them.
 *
 * One lock, cache.lock (RANK_CACHE), guards every struct here unless a field says otherwise. It is never held across a
 * backend call, file I/O or a journal wait; journal_submit and pool_submit under it are fine (they only queue).
 *
 * Requests that end under the lock are queued by creq_end_locked and answered by cache_unlock, after the lock is gone.
 *
 * Ownership: cache owns idents, keys, dirs; a key slot refs its file; handles, transfers and parked requests ref files. */
#pragma once

#include <time.h>

#include "cache.h"
#include "digest.h"
#include "extent.h"
#include "file_state.h"
#include "http.h"
#include "journal.h"
#include "plan.h"
#include "spool.h"
#include "sync.h"

struct xfer;
struct cfile;
struct ckey;
struct cdirnode;
struct spool_drop;

/* One version of one object as last seen. */
struct cver {
    bool known;   /* false: nobody looked yet */
    bool exists;
    int64_t seen_ns; /* monotonic: when the request that told us was sent; 0 with known = from our own commit */
    struct be_object o;
    bool has_md5; /* trusted (rules D1) */
    uint8_t md5[16];
};

enum walk_kind { WALK_FILES, WALK_DIRS, WALK_KINDS };

/* How trees of a remote are walked just now. */
struct walk_now {
    int order;
    unsigned window;
    int64_t until_ns; /* monotonic; in the past: nobody walks */
};

/* One bucket: everything of one identity shares keys, order and ledger. */
struct cident {
    struct cident *next;
    uint32_t id; /* of the journal */
    char *name;  /* identity text */
    struct be *be; /* NULL: named by the journal, but no remote of this run reaches it */
    const struct conf_remote *conf;
    uint32_t caps;
    struct be_limits limits;
    bool foreign_posix;   /* attr=auto: objects others wrote carry modes and times here */
    unsigned samples;     /* directories looked at to learn that */
    /* pause.c, rules B9 */
    unsigned refused;          /* keys refused since the last success */
    unsigned streak;           /* names them, until a success; 0 = none was */
    int64_t paused_until;      /* monotonic */
    struct errinfo pause_err;  /* why; class NONE: not paused */
    const struct xfer *probe;  /* the one transfer that tries whether the pause may end */
    unsigned n_dirty; /* of its slots on the dirty list */
    unsigned in_flight_small, in_flight_big, streams;
    /* prefetch.c */
    struct walk_now walks[WALK_KINDS];
    unsigned reads_ahead, lists_ahead; /* under way */
    unsigned reads_waiting; /* reader.c: of those that the kernel may count */
    int64_t read_moved_ns;  /* when one last got its bytes, or the first began to wait; monotonic */
    struct read_time {
        int64_t mean_ns, dev_ns;
        unsigned n;
    } read_times[6];        /* reader.c: by the size of a chunk, below 256 KiB, 512 KiB … */
    unsigned hedge_credit;
};

struct cache_remote {
    struct cache_remote *next;
    struct cache *cache;
    struct cident *ident;
    const struct conf_remote *conf; /* borrowed from the caller for the cache's life */
    char *prefix;
};

/* A file's content: bytes by extents, metadata, and who uses it. */
struct cfile {
    unsigned refs;
    struct ckey *at;        /* where it lives; NULL = unlinked */
    uint64_t gen;           /* rises with every change of bytes or metadata; never reused */
    struct extent_map map;
    struct extent_source *base; /* the version BASE extents mean; NULL = none */
    uint64_t spool_id;      /* 0 = none */
    bool spool_clean;       /* spool holds bytes of a CLEAN file: may be evicted */
    unsigned io_users;      /* threads in pread or pwrite of the spool file: no eviction, no freeze */
    bool is_marker;         /* a directory marker: key ends in '/' */
    bool time_set;          /* and its time was set; on a real directory whatever arrives in it gives it another, so */
    bool time_again;        /* its attributes are there, and what arrives later is waited for, to set it once more */

    bool meta_known;        /* meta is the whole desired metadata (else only the provider knows the rest) */
    bool meta_explicit;     /* changed by chmod, utimens, setxattr …: never dropped on skip */
    bool meta_removed;      /* a name was taken away: what the object has is replaced */
    bool meta_dirty;        /* differs from the committed version's */
    bool moved;             /* renamed with metadata only the provider knows: all of the source's comes along */
    struct kvlist meta;
    struct cattr attr;      /* decoded from meta; size is map.size */

    unsigned opens, writers;
    bool sealed;            /* complete as far as its writers said (rules C1) */
    bool wrote_since_flush;
    bool row_sealed;        /* the journal's newest row of it says sealed */
    bool row_md5;           /* and has an MD5 that tells whether the local bytes are its own */
    bool unsealing;         /* that row is being taken back; writes wait */
    bool unfinished;        /* open at a crash or its writer was killed (rules C2): not committed by itself */
    uint64_t stream_cut;    /* bytes below it are cut into parts and cannot change any more */
    bool streaming;         /* parts go out while it is written (larger than the spool) */
    struct ckey *carrier;   /* renamed meanwhile: the slot of the name its upload began under. NULL: at */
    int64_t dirty_ns, sealed_ns; /* monotonic */
    int64_t moved_ns;       /* when a part of it last arrived; monotonic */
    int64_t sealed_wall_ns;

    struct digest_md5 md5;  /* of [0, hash_pos), while written in order */
    uint64_t hash_pos;
    bool hash_ok, hashing;
    bool has_md5;           /* of the whole content */
    uint8_t md5_sum[16];

    struct cref_edge *reads; /* pending copies: which key slots this file's REMOTE extents read (src set), and which a rename
                                left behind: their deletion follows this file's commit (src NULL) */
    bool keep_row;          /* the journal's row still is the sealed content before O_TRUNC; it stays until the next seal */
    uint64_t old_spool_id;  /* and this its spool file */
    struct extent_map kept_map; /* and this its content: what it reads must stay, too */
    bool lost;              /* its local bytes are known to be damaged: never sent, whatever the operator says */
    bool hydrate;           /* REMOTE bytes must come to the spool first (rules B4) */

    struct fchange *parked; /* changes that wait for unsealing or a hydration step */
    bool hydrating;         /* fetched bytes are being written to the spool: no change in place meanwhile */
    bool mtime_implicit;    /* meta-mtime is only due to writing */
    int64_t row_due_ns;     /* when its unsealed row should be journaled */
    /* reading */
    struct chunk *chunks;
    uint64_t ra_next, ra_window;
    struct extent_map turned_away; /* LOCAL: reads of that failed, and may come again: those are not turned away */
    struct cfile *lru_prev, *lru_next; /* files with spool_clean */
};

/* file reads slot: an edge of the dependency graph. In the file's list and the slot's. */
struct cref_edge {
    struct cfile *file;
    struct ckey *slot;
    struct extent_source *src;
    struct cref_edge *next_of_file;
    struct cref_edge *prev_of_slot, *next_of_slot;
    int64_t expires_ns; /* an open reader counts 10 min (rules B2); 0 = a copy, without end */
};

/* One part of a committed version, as kept in the journal. */
struct segment {
    uint64_t size;
    uint8_t md5[16];
};

/* An upload whose parts may serve again. */
struct cupload {
    char *id;        /* NULL = none; "?" and the wall time in ns = begun, id not known */
    uint64_t part_size;
    char *tag;       /* extent text of the content it was begun for */
    struct xpart *parts; /* finished ones, by index */
    size_t n_parts;
    struct digest_md5 md5; /* running whole-file MD5 after part hash_next - 1 */
    unsigned hash_next;
};

struct xpart {
    bool done;
    bool unrecorded; /* the server has it, the journal does not: only its MD5 is known, from the etag */
    uint64_t size;
    char etag[BE_ETAG_MAX];
    bool has_crc, has_md5;
    uint64_t crc;
    uint8_t md5[16];
};

/* A key slot: what the provider holds against what is wanted. Exists while anything is pending, open, or lately changed. */
struct ckey {
    struct ckey *hash_next;
    struct cident *ident;
    struct cver base;
    enum file_state state;
    struct cfile *file;     /* content, when wanted or cached; NULL with want_absent or when nothing is known locally */
    struct cfile *aside;    /* unfinished content, never sent by itself: an operator or new content decides (rules C2) */
    bool want_absent;
    bool dir_stays;         /* this absence is only of the content of a directory's own key */
    bool move;              /* this absence belongs to a rename: conditional (rules B6) */
    char expect_etag[BE_ETAG_MAX];
    unsigned pins;          /* somebody holds a pointer outside the lock */
    uint64_t seq;           /* of the newest intent; 0 = none */
    uint64_t sent_gen;      /* gen in COMMITTING */
    bool sent_absent;
    char sent[320];         /* what went out, to tell our own late commit from a stranger's: commit.c */
    struct extent_map sent_map; /* and its content, while COMMITTING or UNKNOWN; empty when none of it is of the old version */
    bool in_journal;        /* an intent row exists or is queued */
    int64_t changed_ns;     /* monotonic: last local change (rules E3) */
    int64_t due_ns;
    int64_t settle_ns;      /* until then a lost request may still land */
    bool hurry;             /* fsync, wait, pressure: due as soon as sealed */
    unsigned tries;
    unsigned broken;        /* of them, the last so many were answers cut short or without sense */
    unsigned refused_streak; /* cident.streak this key was last refused in */
    struct cident *refused_by; /* whose refusal err is; NULL: nobody's, or from before a restart */
    struct errinfo err;
    struct xfer *x;
    struct cupload up;      /* of `carries`, while there is such a file */
    struct cfile *carries;  /* ref: renamed away, and its upload is to end here before anything else: stream.c */
    bool settle_pending;    /* recovered with a request out: settle_ns starts when the remote is there */
    bool drop_upload;       /* recovered with content that will not be sent: abort it once the remote is there */
    struct cref_edge *readers;
    struct cdirnode *dir;  /* of its parent, held from the first change on: only there can the name be seen before a listing has it */
    struct creq *fsync_waiters; /* seq field = gen they wait for */
    struct ckey *dirty_prev, *dirty_next; /* all slots whose state is not CLEAN, in seq order of first dirtying */
    bool on_dirty;
    struct ckey *made_prev, *made_next; /* those of them that moves.c knows */
    int32_t made_by; /* the thread that made the file; 0 = not among them */
    unsigned visit;         /* of the cycle search */
    size_t key_len;
    char key[];
};

struct chandle {
    unsigned magic;
    struct cfile *file; /* ref */
    struct cache_remote *remote;
    int flags;
    bool keep_pages;
    uint64_t next_off;
    struct extent_source *opened; /* version at open */
};
#define CHANDLE_MAGIC 0xca4d1e00u

/* One name in a listed directory. */
struct cchild {
    struct cchild *hash_next;
    struct cattr attr;
    char etag[72];    /* of an object; a longer one does not fit and is left out: then a HEAD tells */
    int64_t mtime_ns; /* Last-Modified */
    uint32_t stamp;   /* listing that last saw it */
    bool is_dir, gone;
    bool as_object;   /* made under its object form (names.h), which it keeps: a directory of its name may be about to come */
    bool has_md5;     /* the etag is the MD5 of the bytes: only said by headers or ledger */
    bool unseen;      /* unseen.c: the listing told the name alone; attr.size is none */
    bool looking;     /* … and it is being asked for, … */
    int look_status;  /* … or cannot be told, since the newest listing: -errno */
    int64_t looked_ns; /* monotonic: when what is known was asked for; 0 = a listing told it */
    uint32_t place;   /* in the node's order */
    unsigned refs;    /* directory snapshots */
    uint16_t len;
    char name[];      /* rest after the prefix; directories end in '/'; "" is the content of the directory's own key */
};

struct cdirnode {
    struct cdirnode *hash_next;
    struct cident *ident;
    bool sampled;       /* attr=auto has looked at some of its objects */
    bool complete, listing, ours; /* ours: made here and not yet at the provider: complete without asking */
    bool has_marker;
    int64_t listed_ns;  /* monotonic: when the first page of the last complete listing was asked for */
    int64_t page_sent_ns;
    int64_t begun_ns;
    int64_t ended_ns;   /* when the last complete listing was there: it answers who came before, however long it stays fresh */
    int64_t used_ns;
    uint32_t stamp;
    struct errinfo err;
    int err_status;     /* of a failed listing, until the next */
    struct cchild **buckets;
    size_t n_buckets, n_children;
    struct cchild **order;  /* what the newest listing brought, in key order; each with a reference */
    size_t n_order, cap_order;
    char *reached;          /* listing progress: last key seen */
    struct creq *waiters;   /* lookups and readdirs: looked at again with every page */
    unsigned refs;          /* cdirs, slots that changed, and the running listing */
    int under_way;          /* of those slots: with a change still to be made at the provider */
    int64_t settled_ns;     /* monotonic: when one last ceased to be */
    unsigned looking, look_window; /* unseen.c: under way; how many the next one who waits asks for */
    struct cwalk *walks[WALK_KINDS]; /* who reads its names in an order: prefetch.c */
    bool walked_to;  /* opened, or about to be */
    bool list_ahead; /* the listing under way is one that nobody asked for yet */
    size_t len;
    char prefix[];
};

/* room.c */
struct room {
    struct creq *waiters;  /* writes that are stored, replies that wait: the longest first */
    uint64_t waiting;      /* their bytes */
    bool high;             /* little room was left, when last looked at */
    int64_t high_ns;       /* since when the scheduler has found so; 0 = it has not */
    uint64_t turn;         /* the spool id of the file that may use what is left; 0 = none */
    int64_t turn_ns;       /* when it last did */
    int64_t turn_began_ns, let_go_ns, refused_ns, pressed_ns;
};

struct cache {
    struct mutex lock;
    struct cond sched_cond; /* scheduler: something became due */
    char *dir;
    struct cache_options opt;
    bool read_only, closing, refuse_new;
    int lock_fd;
    struct journal *journal;
    struct spool *spool;
    struct pool *workers;
    struct http_engine *http;
    pthread_t scheduler;
    bool scheduler_runs, kicked;
    int64_t wake_ns; /* when the scheduler looks again by itself; INT64_MAX while it looks */

    struct cident *idents;
    struct cache_remote *remotes;
    struct ckey **keys;     /* hash by (ident, key) */
    size_t n_buckets, n_keys;
    struct ckey *dirty_head, *dirty_tail;
    struct ckey *made[1024]; /* pending files without bytes to copy, by their names: moves.c */
    unsigned visit;
    uint64_t n_dirty;
    unsigned streaks; /* of refusals, so far: pause.c */
    struct cdirnode **dirs;
    size_t n_dir_buckets, n_dirs;
    struct cfile *lru_head, *lru_tail; /* CLEAN files with spool bytes, least recently used first */
    size_t n_lru;

    uint64_t next_seq, next_spool_id;
    struct spool_drop *drops;         /* spool files to go, since the lock was taken */
    struct creq *ready, **ready_tail; /* ended under the lock, answered by cache_unlock */
    bool help; /* cache_unlock calls journal_help */
    struct creq *stale_reads;         /* their version is being replaced by our own commit: tried again when it is known */
    struct room room;
    int64_t bw_free_ns;     /* bwlimit: when the next body may go */
    uint64_t mem_used;                /* upload buffers and read chunks */
    struct xfer *mem_waiters, **mem_waiters_tail;
    struct chunk *chunk_head, *chunk_tail; /* all read chunks, LRU */
    uint64_t chunk_bytes;
    struct chunk *ahead[1024];           /* of files nobody has opened yet, by key */
    int64_t hedge_ns; /* when a chunk may be waited for too long; INT64_MAX */
    uint64_t ahead_bytes;
    unsigned n_ahead;
    struct cwalk *walks;
    struct orphan *orphans; /* aborts not yet confirmed */
    unsigned active_xfers;
    unsigned async; /* listings, stats, chunks in flight: close waits for them */
    struct cond idle_cond;
    int64_t last_progress_ns;
    bool power_lost; /* another boot since the journal was last open (rules C5) */
    bool sync_wanted;        /* a deletion waits for a sync of the spool */
    int64_t spool_synced_ns; /* wall: what was sealed before it is on disk; as the journal has it */
    int64_t by_time_ns;      /* wall: the youngest sealed content that a power cut leaves to that time (no MD5) */

    /* counters, for status and metrics */
    uint64_t files_total, bytes_total; /* since the journal was made */
    uint64_t files_done, bytes_done, files_skipped, server_copies, failed_total;
};

#define MARK_SPOOL_SYNCED "spool_synced"

/* ---- cache.c ---- */
void cache_lock(struct cache *c);
void cache_unlock(struct cache *c); /* and answers what ended */
/* With the lock: submits what somebody waits for; cache_unlock may write it at once. */
void cache_submit_answered(struct cache *c, struct jtx *tx, void (*done)(void *ctx, int status), void *ctx);
void creq_end_locked(struct cache *c, struct creq *r, int status);
void cache_async_begin_locked(struct cache *c);
void cache_async_end_locked(struct cache *c);
void cache_kick_locked(struct cache *c); /* the scheduler looks again */
struct cident *ident_find(struct cache *c, uint32_t id);
struct cident *ident_load(struct cache *c, uint32_t id); /* recover.c: made from the journal when no remote named it yet */

/* ---- keys.c: slots, files, dependencies ---- */
size_t key_hash(uint32_t ident, const char *key, size_t len);
struct ckey *key_find(struct cache *c, struct cident *id, const char *key);
struct ckey *key_get(struct cache *c, struct cident *id, const char *key); /* find or make */
void key_drop_if_idle(struct cache *c, struct ckey *k); /* frees a slot nobody needs */
void key_event(struct cache *c, struct ckey *k, enum file_event e, const char *why);
/* Content or metadata of the slot changed: seq, dirty list, state, dependency edges, cycle check. */
void key_changed(struct cache *c, struct ckey *k);
void key_content_changes(struct cache *c, struct ckey *k, const char *why); /* the state's part of it: what is being sent is old */
/* The slot as an intent row into tx; or its deletion when the state is CLEAN. */
void key_journal(struct cache *c, struct ckey *k, struct jtx *tx);
void key_set_file(struct cache *c, struct ckey *k, struct cfile *f); /* takes a reference; moves f->at */
void key_forget_file(struct cache *c, struct ckey *k); /* the slot has no content any more; open handles keep theirs */
void key_set_aside(struct cache *c, struct ckey *k); /* DIRTY: the content is unfinished, the base shows again */
void key_drop_aside(struct cache *c, struct ckey *k);
void key_want_absent(struct cache *c, struct ckey *k, bool move);
/* Whether the slot says something of the directory of its key, or of its object: a file, or the content of a directory. */
bool key_speaks_for(const struct ckey *k, bool dir);
/* True when nothing stands in the way of the slot's commit request now. */
bool key_may_commit(struct cache *c, struct ckey *k, int64_t now_ns);
/* A copy that reads this key has failed for good: its deletion is dropped, its overwrite BLOCKED. */
void key_sources_of_failed(struct cache *c, struct ckey *k);
/* An open, unsealed copy of this key may stay open for ever, or its writer may wait for this very key: when somebody waits,
 * or after a while, its bytes are fetched instead. */
void key_free_from_open(struct cache *c, struct ckey *k, int64_t now_ns);
bool key_has_file(const struct ckey *k);   /* a file shows under this key */
/* An edge with src NULL: f has the bytes of left_behind, though it does not read them there (a rename, a copy in the spool). A
 * deletion of that key waits until f is committed, so that the bytes are at a provider at any moment (rules B2). */
void key_order_after(struct cache *c, struct cfile *f, struct ckey *left_behind);
/* moves.c. A file of which a copy reads nothing was made, complete; it is no longer pending; a file was removed, which may be
 * the other half of a move. */
void move_made(struct cache *c, struct ckey *k, int32_t by);
void move_is_over(struct cache *c, struct ckey *k);
void move_removed(struct cache *c, struct ckey *k, int32_t by);
void key_due(struct cache *c, struct ckey *k, int64_t at_ns); /* content not yet sealed: when it is, unless it hydrates */
/* Failed for good: sticky error, its move-deletes are dropped, waiting overwrites of its sources are BLOCKED (rules B5). */
void key_refused(struct cache *c, struct ckey *k, enum file_event e, const struct errinfo *err);
/* pause.c. All locked. */
bool pause_holds(const struct ckey *k, int64_t now); /* its remote, or one it is copied from, is not to be asked now */
bool pause_waits(const struct ckey *k);              /* such a remote is paused, between its probes too */
unsigned pause_lift(struct cache *c, struct cident *id); /* goes on at once; how many keys that makes due */
unsigned pause_lift_of(struct cache *c, struct ckey *k); /* every remote this key waits for */

void key_recovered(struct cache *c, struct ckey *k); /* joins the dirty list in the state it has */
void key_submit_row(struct cache *c, struct ckey *k); /* journal it, nobody waits */

struct cfile *file_new(struct cache *c);
struct cfile *file_ref(struct cfile *f);
void file_unref(struct cache *c, struct cfile *f);
void file_touch(struct cfile *f, bool data); /* gen rises */
/* Removes a spool file once the row that no longer names it is committed: that row may still be in the making, so it is waited
 * for from cache_unlock on. */
void spool_drop_later(struct cache *c, uint64_t spool_id);
void spool_drops_submit_locked(struct cache *c);
void file_relink(struct cache *c, struct cfile *f); /* edges follow the map's REMOTE extents */
/* BASE extents become REMOTE ones of the same version: the file is about to lose or change its name. */
void file_pin_for_move(struct cache *c, struct cfile *f);
/* k->base is a new version, written from sent_map, and `replaced` is gone: whoever came to copy from that while the commit was
 * out copies the same bytes from the new one. */
void key_rebase(struct cache *c, struct ckey *k, const struct be_object *replaced);
void key_keep_sent(struct ckey *k, const struct extent_map *m); /* NULL: no request is out any more */
void file_drop_edges(struct cache *c, struct cfile *f);
void file_row_goes(struct cfile *f); /* the row that was kept over O_TRUNC is about to be replaced */
bool file_md5_tells(const struct cfile *f); /* its MD5 is that of the spool's bytes */
struct extent_source *file_base_as_source(struct cfile *f);
/* Whole content = the base version; the spool file goes. Only for CLEAN files without io_users. */
void file_evict(struct cache *c, struct cfile *f);
void file_lru_touch(struct cache *c, struct cfile *f);
void file_lru_remove(struct cache *c, struct cfile *f);
void file_to_base(struct cache *c, struct cfile *f, const struct cver *v); /* after commit or on load */

/* ---- dirs.c, lookup.c ---- */
struct cdirnode *dir_find(struct cache *c, struct cident *id, const char *prefix, size_t len);
struct cdirnode *dir_get(struct cache *c, struct cident *id, const char *prefix, size_t len);
void dir_hold(struct cache *c, struct ckey *k); /* k->dir; nothing when it is held already */
void dir_let_go(struct ckey *k);
struct cchild *dir_child(struct cdirnode *d, const char *name, size_t len);
/* What a local change does to the listing of the key's directory, when it is known. v NULL = gone. A directory is a key
 * that ends in '/'; attributes or a version that no directory has are those of its content, which is a file in it. */
void dir_note(struct cache *c, struct cident *id, const char *key, const struct cattr *attr, const struct cver *v,
              bool gone);
/* After a restart: a name that no listing brings yet shows all the same. */
void dir_note_pending(struct cache *c, struct ckey *k);
void dir_note_content_gone(struct cache *c, struct cident *id, const char *key);
/* The name a file was made under: its object form, or the plain one. */
void dir_note_form(struct cache *c, const struct cref *ref);
/* Splits a key into its directory's prefix length and name: "a/b/c" → 4; "a/b/" → 2. */
size_t key_parent_len(const char *key);
/* The directory whose listing tells of a prefix: itself, or where a continuation directory (names.h) continues. A
 * continuation directory has no listing of its own: it shows some names of that one. */
size_t prefix_listed_len(const char *prefix);
bool prefix_is_continued(const char *prefix);
/* Keys that end in '/' name a directory and may hold content: whether this one stands for bytes and not for the marker. */
bool key_is_content(const char *key, uint64_t size);
/* Whether a directory's time, set and stored, is still to be changed by what is on its way into it. What is open, or waits for a
 * remote that refuses us, is not waited for. *ret_wait_ns: when to ask again at the latest. */
bool dir_time_changes(struct cache *c, struct ckey *marker, int64_t now_ns, int64_t *ret_wait_ns);
/* Whether something arrived in it or went since the time was set here: which was first at the provider nobody knows. */
bool dir_time_changed(struct cache *c, const struct ckey *marker);
/* A directory's name shows in its parents, up to the first that shows it already. */
void dirs_note_parents(struct cache *c, struct cident *id, const char *prefix);
bool dir_fresh(struct cache *c, const struct cdirnode *d, int64_t now_ns);
void dir_list_start(struct cache *c, struct cdirnode *d);
void dir_waiters_try(struct cache *c, struct cdirnode *d); /* lookup.c: a page came, or the listing failed */
void child_unref(struct cchild *ch);
void child_set_version(struct cchild *ch, const struct be_object *o);
void dirs_free_all(struct cache *c);
void dirs_trim(struct cache *c);
/* The slot of an existing or pending object, with base from listing when that is fresh; NULL when there is none. With
 * *ret_unknown the caller must look first. */
/* 0, or why no object of that key can be made there: -ENAMETOOLONG, -EILSEQ; the log has the reason. */
int key_check(struct cident *id, const char *key);
struct ckey *key_resolve(struct cache *c, struct cident *id, const char *key, bool *ret_unknown);
/* Gives a slot without a file its directory's marker, with what the listing knows of it. */
void marker_of_slot(struct cache *c, struct ckey *k);
/* Looks an object up by HEAD and puts it into its slot's base; done on any thread, not under the lock. */
void key_head(struct cache *c, struct cident *id, const char *key, void (*done)(void *ctx, int status), void *ctx);

/* ---- unseen.c ---- */
/* Whether what an earlier look told of a name still holds, for a listing that tells nothing of it. */
bool unseen_holds(const struct cache *c, const struct cchild *ch);
/* A listing has brought that name, and nothing else of it. */
void unseen_found(struct cchild *ch);
/* True: what stat(2) shows of it is on its way, and the node's waiters are tried again when it is there. False: nothing is
 * waited for; ch->unseen then tells whether it has become known or look_status says why not. */
bool unseen_wait(struct cache *c, struct cdirnode *d, struct cchild *ch);

/* ---- file.c ---- */
/* Marks the content complete and journals it; r (may be NULL) is answered when the row is committed. */
void file_unpark(struct cache *c, struct cfile *f, bool failed); /* parked changes try again, or end with EIO */
void file_seal(struct cache *c, struct cfile *f, struct creq *r);
/* The content of a slot that has some, loaded from its base when it is not here yet. */
struct cfile *file_of_slot(struct cache *c, struct ckey *k);
/* Metadata of the committed version comes under what was changed here meanwhile. */
void file_load_meta(struct cfile *f, const struct kvlist *meta);
/* `whole`: a truncate(2), which is all that is to be done to the file, and not one step of somebody who has it open. */
void file_truncate(struct cache *c, struct creq *r, struct chandle *h, uint64_t size, bool whole);

/* ---- tree.c, rename.c, attrs.c ---- */
bool tree_refuse(struct cache *c, struct creq *r);   /* read only: answered */
void tree_commit(struct cache *c, struct creq *r, struct jtx *tx); /* r is answered when tx is committed */
/* Looks ref.key up and goes on with `then` under the lock. Called under it; drops and retakes it. */
void tree_ask(struct cache *c, struct creq *r, const char *key,
              void (*then)(struct cache *c, struct creq *r, void *arg, bool asked), void *arg);
/* Lists the directory first, then goes on under the lock. */
void tree_when_listed(struct cache *c, struct creq *r, const struct cref *ref,
                      void (*then)(struct cache *c, struct creq *r, void *arg, bool empty), void *arg);
struct cfile *tree_make(struct cache *c, struct creq *r, const char *key, mode_t mode); /* a new sealed file without bytes */
void tree_keep_parent(struct cache *c, struct creq *r, const char *key, struct jtx *tx); /* rules D7 */
struct ckey *tree_drop_dir(struct cache *c, struct cident *id, const char *prefix);
struct ckey *tree_movable(struct cache *c, struct cident *id, const char *key, bool *ret_unknown); /* slot with content loaded */

/* ---- meta.c ---- */
void meta_defaults(struct cache *c, struct cattr *a, bool dir);
/* attr from metadata: mode, uid, gid, mtime, rdev in the names of s3fs and rclone; what is absent stays as in a. */
void meta_decode(const struct kvlist *meta, struct cattr *a);
bool meta_has_posix(const struct kvlist *meta);
void meta_encode(const struct cattr *a, unsigned mask, struct kvlist *meta); /* mask CSET_… */
const char *meta_content_type(const char *key);
void meta_set_md5(struct kvlist *meta, const uint8_t md5[16], bool inherited);
bool meta_get_md5(const struct kvlist *meta, uint8_t ret_md5[16]);
/* Headers and user metadata of a copied source. A copy takes them over its own guesses, but mode, owner and times are the
 * copier's; a moved object takes everything that was not changed since. */
void meta_merge_source(struct kvlist *own, const struct kvlist *src, bool moved);
size_t meta_user_bytes(const struct kvlist *meta); /* as the providers count: names and values of meta-* */
/* xattr name → metadata name, or NULL when it is none of metadata. */
bool meta_xattr_name(const char *xattr, struct buf *ret_meta_name);
bool meta_name_xattr(const char *meta_name, struct buf *ret_xattr);
int meta_value_encode(const void *p, size_t n, struct buf *out); /* binary-safe text of an xattr value */
int meta_value_decode(const char *s, struct buf *out);

/* ---- reader.c ---- */
void reader_read(struct cache *c, struct creq *r, struct cfile *f);
void reader_drop(struct cache *c, struct cfile *f); /* idle chunks of the file */
void reader_stale(struct cache *c); /* tries stale_reads again; locked */
int64_t reader_hedge(struct cache *c, int64_t now); /* asks again for what takes too long; when to look again; locked */
void reader_hung(struct cache *c);  /* once a second: read-ahead that waits for a remote which does not answer; locked */
/* A small object in one piece, for who opens it next. False: not now, there is no room or enough under way. */
bool reader_fetch_ahead(struct cache *c, struct cident *id, struct extent_source *src);
void reader_forget_ahead(struct cache *c, int64_t before_ns); /* what came before that and nobody read */

/* ---- prefetch.c. All locked. ---- */
void prefetch_read(struct cache *c, const struct ckey *k);     /* its first bytes are being read */
void prefetch_opened(struct cache *c, struct cdirnode *d);     /* to be listed */
void prefetch_listed(struct cache *c, struct cdirnode *d);     /* its listing is complete */
void prefetch_list_ended(struct cdirnode *d);                  /* or has failed */
void prefetch_more(struct cache *c, struct cident *id);        /* something came; there is room for more */
void prefetch_failed(struct cache *c, struct cident *id);      /* the guess was no good */
void prefetch_tick(struct cache *c, int64_t now);
void prefetch_end(struct cache *c);

/* ---- upload.c ---- */
void xfer_start(struct cache *c, struct ckey *k); /* locked; state DIRTY or UNKNOWN */
void xfer_call_off(struct cache *c, struct ckey *k); /* locked: its content was superseded */
void xfer_memory_freed(struct cache *c);
void upload_fini(struct cupload *u);
bool upload_unknown(const struct cupload *u); /* begun, its id not (yet) learnt */
void upload_drop(struct cache *c, struct ckey *k); /* forget, and abort at the provider behind the scenes */

/* ---- restore.c: archived objects ---- */
void restore_refused(struct ckey *k); /* locked; it failed because something is archived */
void restore_tick(struct cache *c, int64_t now); /* locked; once a second */

/* ---- orphans.c: uploads that must not be left behind (rules C7) ---- */
void orphan_abort(struct cache *c, struct cident *id, const char *key, const char *upload_id); /* locked; journaled until done */
void orphans_retry(struct cache *c, int64_t now_ns); /* locked; once a second */
bool orphans_busy(const struct cache *c); /* aborts that have not failed yet */
int orphans_load(struct cache *c);
void orphans_free(struct cache *c);
/* ---- stream.c: files larger than the spool, finished parts go out while the file is written (rules C8). All locked. ---- */
/* It grew: start streaming, or send what is complete. `waits`: its writer waits for room, and one part is enough. */
void stream_consider(struct cache *c, struct cfile *f, bool waits);
void stream_poke(struct cache *c, struct cfile *f);     /* it was sealed */
bool stream_is_sent(const struct cfile *f);             /* its commit is out: no byte can be added until it is decided */
/* What the slot's transfers are about now: what it carries, else its content; NULL: its absence. */
struct cfile *key_sends(const struct ckey *k);
/* f, of which `from` was the name, is `to`'s and has its new generation; before either slot is told of a change. */
void stream_renamed(struct cache *c, struct ckey *from, struct ckey *to, struct cfile *f);
void stream_carry(struct ckey *from, struct cfile *f);     /* also after a restart */
void stream_let_go(struct cache *c, struct cfile *f);      /* only forgets who carries it */
void stream_abandon(struct cache *c, struct cfile *f);     /* and its upload is of no use any more */
/* The slot's base is what was last sent: when that was a stream, its file is told. */
void stream_landed(struct cache *c, struct ckey *k, struct jtx *tx);

/* ---- sched.c ---- */
void *sched_main(void *arg);
void sched_evict(struct cache *c, size_t keep); /* clean bytes go, but for so many files */

/* ---- room.c. All locked. ---- */
/* The write r of f is stored, or has failed: answered at once, or when there is room. */
void room_end(struct cache *c, struct creq *r, struct cfile *f, int status);
bool room_interrupt(struct cache *c, const struct creq *r); /* false: it does not wait here */
bool room_sealed(struct cache *c, const struct cfile *f);   /* whether its upload is wanted at once */
bool room_comes_of(const struct ckey *k); /* its transfer frees bytes of the spool */
uint64_t room_part(const struct cache *c, const struct cident *id); /* the first part of a stream */
void room_tick(struct cache *c, int64_t now);

/* ---- recover.c ---- */
int recover_load(struct cache *c, struct errinfo *reterr);
void recover_ident_locked(struct cache *c, struct cident *id); /* its backend is there now */

bool scope_has(const struct cscope *s, const struct ckey *k); /* key or, for a pending copy, a source lies in scope */
