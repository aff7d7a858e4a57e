/* SPDX-License-Identifier: MIT */
#ifndef TUNNEL_INTAKE_H
#define TUNNEL_INTAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/loop.h"
#include "tunnel/http_head.h"
#include "tunnel/stream.h"

/*
 * intake: what a client sends before it is answered: the head of its request,
 * in time, and the frames of one that does not wait for our 101, which are kept
 * up to a maximum; beyond it nothing is read.
 */
struct intake;

#define INTAKE_HEAD_MS	   5000 /* for the head */
#define INTAKE_EARLY_BYTES (64 * 1024)

struct intake_events {
	/* The head has come, once.  It is cleared after this call. */
	void (*request)(void *arg, const struct http_head *head);
	/* None has come, or one that is none; why is for the log. */
	void (*failed)(void *arg, enum err err, const char *why);
	/*
	 * The client has left, before or after its request; or has not said
	 * anything, which is no error of one that connected in advance.
	 */
	void (*gone)(void *arg);
};

/*
 * Read a connected stream socket, which is the intake's from now on.  Nothing
 * is called from within, and nothing after failed or gone.
 */
struct intake *intake_new(struct loop *loop, int fd,
    const struct intake_events *events, void *arg);

/* NULL is allowed; any time, within the events, too. */
void intake_free(struct intake *intake);

/* Whether anything has come. */
bool intake_has_begun(const struct intake *intake);

/* The socket. */
int intake_fd(const struct intake *intake);

/* The frames that have come, borrowed: NULL where there are none. */
const uint8_t *intake_peek_early(const struct intake *intake, size_t *ret_len);

/* The connection is the caller's from now on, and the intake reads no more. */
void intake_take(struct intake *intake, struct stream **ret_stream,
    struct loop_watch **ret_watch);

#endif
