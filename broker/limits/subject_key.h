/* SPDX-License-Identifier: MIT */
#ifndef BROKER_SUBJECT_KEY_H
#define BROKER_SUBJECT_KEY_H

#include <stdint.h>

/*
 * subject_key: what tables in memory know a subject by: 16 bytes of a digest
 * of its name and of a key that this process has made up.  Nobody can choose
 * names that meet in a table, and all take the same room.
 */
struct subject_key {
	uint64_t words[2];
};

struct subject_key subject_key_of(const char *name);

#endif
