/* The transition table of one key. Everything that is not written here cannot happen, and asking
 * for it is a bug.
 *
 * Three decisions that are not obvious:
 *
 * REDIRTIED never sends. Requests that read the live content while it changed carry a mixture, so
 * they end and the upload starts anew; only COMMITTING, whose body is a snapshot, lives through
 * changes.
 *
 * COMMITTING and UNKNOWN are left by learning the outcome and by nothing else. A local failure
 * there stays with the file as its sticky error and is raised again in the state that follows;
 * leaving at once would let a retry send a second mutating request beside one that can still land
 * (rules B1). For the same reason a refused look leaves UNKNOWN as it is, and a refusal whose
 * outcome is unknown must be raised as a lost reply.
 *
 * CONFLICT keeps its name when something local fails as well: it is the state in which a foreign
 * version is at stake. */
#include "file_state.h"

/* Zero means that the event cannot happen. */
#define TO(state) ((state) + 1)

static const unsigned char table[FS_STATES][FE_EVENTS] = {
    [FS_CLEAN] =
        {
            [FE_CHANGE] = TO(FS_DIRTY),
            [FE_LOCAL_FAILED] = TO(FS_BLOCKED),
        },
    [FS_DIRTY] =
        {
            [FE_CHANGE] = TO(FS_DIRTY),
            [FE_START] = TO(FS_UPLOADING),
            [FE_REFUSED] =
                TO(FS_BLOCKED), /* no plan, or a copy that reads this key failed (rules B5) */
            [FE_LOCAL_FAILED] = TO(FS_BLOCKED),
            [FE_DISCARD] =
                TO(FS_CLEAN), /* unfinished, or created and removed before anything was sent */
        },
    [FS_UPLOADING] =
        {
            [FE_CHANGE] = TO(FS_REDIRTIED),
            [FE_PART_FAILED] = TO(FS_DIRTY),
            [FE_SEND] = TO(FS_COMMITTING),
            [FE_FOUND_OURS] = TO(FS_CLEAN), /* skip: the key already holds the desired content */
            [FE_REFUSED] = TO(FS_BLOCKED),
            [FE_LOCAL_FAILED] = TO(FS_BLOCKED),
        },
    [FS_REDIRTIED] =
        {
            [FE_CHANGE] = TO(FS_REDIRTIED),
            [FE_PART_FAILED] = TO(FS_DIRTY),
            [FE_CALLED_OFF] = TO(FS_DIRTY),
            [FE_REFUSED] = TO(FS_BLOCKED),
            [FE_LOCAL_FAILED] = TO(FS_BLOCKED),
        },
    [FS_COMMITTING] =
        {
            [FE_CHANGE] = TO(FS_COMMITTING),
            [FE_ACCEPTED] = TO(FS_CLEAN),
            [FE_ACCEPTED_OLD] = TO(FS_DIRTY),
            [FE_REPLY_LOST] = TO(FS_UNKNOWN),
            [FE_PRECOND] = TO(FS_UNKNOWN),
            [FE_REFUSED] = TO(FS_BLOCKED),
            [FE_LOCAL_FAILED] = TO(FS_COMMITTING),
        },
    [FS_UNKNOWN] =
        {
            [FE_CHANGE] = TO(FS_UNKNOWN),
            [FE_FOUND_BASE] = TO(FS_DIRTY),
            [FE_FOUND_OURS] = TO(FS_CLEAN),
            [FE_FOUND_OURS_OLD] = TO(FS_DIRTY),
            [FE_FOUND_FOREIGN] = TO(FS_CONFLICT),
            [FE_REFUSED] = TO(FS_UNKNOWN),
            [FE_LOCAL_FAILED] = TO(FS_UNKNOWN),
        },
    [FS_CONFLICT] =
        {
            [FE_CHANGE] = TO(FS_CONFLICT),
            [FE_LOCAL_FAILED] = TO(FS_CONFLICT),
            [FE_RETRY] = TO(FS_DIRTY), /* ours wins: the base is now the foreign version */
            [FE_DISCARD] = TO(FS_CLEAN),
        },
    [FS_BLOCKED] =
        {
            [FE_CHANGE] = TO(FS_BLOCKED),
            [FE_LOCAL_FAILED] = TO(FS_BLOCKED),
            [FE_RETRY] = TO(FS_DIRTY),
            [FE_DISCARD] = TO(FS_CLEAN),
        },
};

static const char *const state_names[FS_STATES] = {
    [FS_CLEAN] = "CLEAN",         [FS_DIRTY] = "DIRTY",     [FS_UPLOADING] = "UPLOADING",
    [FS_REDIRTIED] = "REDIRTIED", [FS_UNKNOWN] = "UNKNOWN", [FS_COMMITTING] = "COMMITTING",
    [FS_CONFLICT] = "CONFLICT",   [FS_BLOCKED] = "BLOCKED",
};

static const char *const event_names[FE_EVENTS] = {
    [FE_CHANGE] = "change",
    [FE_START] = "start",
    [FE_PART_FAILED] = "part-failed",
    [FE_CALLED_OFF] = "called-off",
    [FE_SEND] = "send",
    [FE_ACCEPTED] = "accepted",
    [FE_ACCEPTED_OLD] = "accepted-old",
    [FE_REPLY_LOST] = "reply-lost",
    [FE_PRECOND] = "precondition",
    [FE_FOUND_BASE] = "found-base",
    [FE_FOUND_OURS] = "found-ours",
    [FE_FOUND_OURS_OLD] = "found-ours-old",
    [FE_FOUND_FOREIGN] = "found-foreign",
    [FE_REFUSED] = "refused",
    [FE_LOCAL_FAILED] = "local-failed",
    [FE_RETRY] = "retry",
    [FE_DISCARD] = "discard",
};

/* Journal rows carry states as numbers, so both names and transitions take what is out of range. */
const char *file_state_name(enum file_state s)
{
    return (unsigned)s < FS_STATES ? state_names[s] : "?";
}

const char *file_event_name(enum file_event e)
{
    return (unsigned)e < FE_EVENTS ? event_names[e] : "?";
}

int file_state_next(enum file_state s, enum file_event e)
{
    if ((unsigned)s >= FS_STATES || (unsigned)e >= FE_EVENTS) {
        return -1;
    }
    return (int)table[s][e] - 1;
}

enum file_state file_state_recovered(enum file_state journaled)
{
    switch (journaled) {
    case FS_CLEAN:
    case FS_CONFLICT:
    case FS_BLOCKED:
        return journaled;
    case FS_DIRTY:
    case FS_UPLOADING:
    case FS_REDIRTIED:
        return FS_DIRTY;
    case FS_COMMITTING:
    case FS_UNKNOWN:
    case FS_STATES:
        break;
    }
    /* Also what no version of this program wrote: looking is the one thing that is always safe. */
    return FS_UNKNOWN;
}
