/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_VENDOR_DOUBLE_H
#define TESTS_UNIT_VENDOR_DOUBLE_H

#include <pthread.h>
#include <stdbool.h>

/*
 * vendor_double: a vendor's HTTP server for tests, which answers connections
 * one after the other with fixed bytes, and keeps what it was sent.
 */
#define VENDOR_ANSWERS_MAX 4

/* There is one in a test. */
struct vendor_double {
	int fd; /* which listens */
	char url[64];
	const char *answers[VENDOR_ANSWERS_MAX + 1]; /* up to a NULL */
	char requests[VENDOR_ANSWERS_MAX][4096];
	pthread_t thread;
};

extern struct vendor_double vendor;

/* In place of an answer: nothing, until the peer is gone. */
extern const char vendor_silence[];

/* Listen, at a URL with this path; not 0 where that fails. */
int vendor_open(const char *path);
int vendor_close(void);

/* Answer so many connections, in a thread, until vendor_stop(). */
void vendor_start(const char *const answers[]);
void vendor_stop(void);

/* Whether somebody connects whom nobody has served. */
bool vendor_was_dialled(void);

#endif
