/* backend.c's checks of arguments: backend_check.c. Each returns 0, or -errno with op->err set. */
#pragma once

#include "backend.h"

int be_check_need(struct be_op *op, uint32_t cap, const char *what); /* a capability; 0 = none */
int be_check_op_key(struct be_op *op, const char *key);                 /* of what need not be storable */
int be_check_arguments(struct be_op *op);                            /* all else, by op->kind */
