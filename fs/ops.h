/* The FUSE operations, as session.c needs them. */
#pragma once

struct fs;
struct fuse_args;
struct fuse_session;

/* A libfuse session with our operations and fs as its user data; NULL when libfuse refuses the
 * arguments. */
struct fuse_session *ops_session_new(struct fuse_args *args, struct fs *fs);
