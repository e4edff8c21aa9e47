/* The state of one key: what the provider holds against what the mount promises. Pure table; see the model in
 * tests/unit. One mutating request a key is in flight at a time.
 *
 * "Content" below is the desired content of the key: a file's bytes and metadata, or absence (a DELETE). */
#pragma once

#include <stdbool.h>

enum file_state {
    FS_CLEAN,      /* the provider holds the desired content, or nothing was ever promised */
    FS_DIRTY,      /* it does not; an intent is queued (sealed) or being written (open) */
    FS_UPLOADING,  /* requests that cannot change the key are running: GETs, parts */
    FS_REDIRTIED,  /* content changed under them: they are being called off */
    FS_COMMITTING, /* the one request that changes the key is out; its body is a snapshot */
    FS_UNKNOWN,    /* its reply was lost: only looking can tell */
    FS_CONFLICT,   /* somebody else changed the key; an operator decides */
    FS_BLOCKED,    /* failed for good (403, quota, forbidden key, local I/O); bytes kept, an operator or a new write decides */
    FS_STATES
};

enum file_event {
    FE_CHANGE,        /* write, truncate, attributes, rename onto or away, unlink */
    FE_START,         /* due: deadline, fsync, pressure */
    FE_PART_FAILED,   /* transient failure before the commit request: wait and start anew */
    FE_CALLED_OFF,    /* the superseded requests have all ended, the upload is aborted */
    FE_SEND,          /* COMMITTING is in the journal: the commit request goes out */
    FE_ACCEPTED,      /* and nothing changed since */
    FE_ACCEPTED_OLD,  /* accepted, but content changed meanwhile */
    FE_REPLY_LOST,
    FE_PRECOND,       /* a condition did not hold */
    FE_FOUND_BASE,    /* the key still is what it was before */
    FE_FOUND_OURS,    /* it is what we sent, and that is still the desired content */
    FE_FOUND_OURS_OLD,
    FE_FOUND_FOREIGN,
    FE_REFUSED,       /* 403, quota, invalid: sticky error */
    FE_LOCAL_FAILED,  /* local read, write or fsync failed; COMMITTING, UNKNOWN, CONFLICT stay: raise it again in DIRTY */
    FE_RETRY,         /* the operator asks again, or new content replaces what was refused */
    FE_DISCARD,       /* the operator gives the local content up */
    FE_EVENTS
};

const char *file_state_name(enum file_state s);
const char *file_event_name(enum file_event e);
/* The next state, or -1: the event cannot happen in that state (a bug of the caller). */
int file_state_next(enum file_state s, enum file_event e);
/* State after a restart, from the journal's: COMMITTING, UNKNOWN → UNKNOWN; UPLOADING, REDIRTIED, DIRTY → DIRTY. */
enum file_state file_state_recovered(enum file_state journaled);
