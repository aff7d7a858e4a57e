/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_TICKET_STORE_H
#define TESTS_UNIT_TICKET_STORE_H

#include "common/crypt.h"

/*
 * ticket_store: the current store, in a folder of its own, and the current
 * signing key, for tests that make tickets.  Not 0 where that fails.
 */
int ticket_store_open(void);
int ticket_store_close(void);

/* The signing key, to sign what is not made here; the caller frees it. */
struct crypt_key *ticket_store_key(void);

#endif
