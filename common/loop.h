/* SPDX-License-Identifier: MIT */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * loop: readiness of descriptors (epoll(7)), and timers.
 *
 * One thread runs a loop; all calls come from that thread, callbacks
 * included.  Every call is allowed inside every callback, freeing what called
 * back included.
 */
struct loop;

/* Make a loop; ERR_SYS.  One that is made before fork() is nobody's yet. */
enum err loop_new(struct loop **ret, struct diag *diag) MUST_CHECK;

/* Free it; its watches and timers have been freed before.  NULL is allowed. */
void loop_free(struct loop *loop);

/*
 * To be called once by the process that uses the loop, before anything else:
 * what the kernel would share with a parent and its children is made here.
 */
enum err loop_begin(struct loop *loop) MUST_CHECK;

/* Run until loop_stop(); ERR_SYS where the loop itself fails. */
enum err loop_run(struct loop *loop) MUST_CHECK;
void loop_stop(struct loop *loop);

/*
 * Memory for one callback's use, kept by nobody after it returns: *ret_size
 * bytes, with LOOP_HEADROOM bytes more in front of them.
 */
#define LOOP_HEADROOM 256
uint8_t *loop_scratch(struct loop *loop, size_t *ret_size);

/* Give memory that is not in use back to the system: for a quiet time. */
void loop_rest(struct loop *loop);

/*
 * A watched descriptor.  It stays the caller's, who frees the watch before
 * closing it.  Interest starts as none.
 *
 * After the peer has hung up, reading and writing no longer wait, so the
 * callback comes for whatever is wanted until the watch is freed; while
 * nothing is wanted there is none, and nothing is lost or spun on, unless
 * loop_watch_tell_hangup() asks for one.
 */
struct loop_watch;
typedef void (*loop_ready)(void *arg, bool readable, bool writable);

struct loop_watch *loop_watch_new(struct loop *loop, int fd, loop_ready ready,
    void *arg);
void loop_watch_free(struct loop_watch *watch); /* NULL is allowed */

/* From now on call this. */
void loop_watch_bind(struct loop_watch *watch, loop_ready ready, void *arg);

/*
 * What is wanted, level-triggered.  A descriptor that the kernel cannot watch
 * (no memory) counts as ready, so that its owner meets the error.
 */
void loop_watch_set(struct loop_watch *watch, bool read, bool write);

/*
 * If the peer hangs up (or has) while nothing is wanted, call back once, with
 * neither readable nor writable.  Holds from the next loop_watch_set() until
 * loop_watch_bind().
 */
void loop_watch_tell_hangup(struct loop_watch *watch);

/*
 * Call back once for reading, without waiting, if reading is wanted then:
 * for bytes that have left the kernel already.
 */
void loop_watch_kick(struct loop_watch *watch);

/* A one-shot timer; it starts stopped. */
struct loop_timer;
typedef void (*loop_expired)(void *arg);

struct loop_timer *loop_timer_new(struct loop *loop, loop_expired expired,
    void *arg);
void loop_timer_free(struct loop_timer *timer); /* NULL is allowed */

/*
 * Expire once, in ms milliseconds; replaces an earlier call.  0 is soon: not
 * inside this call, and without waiting.
 */
void loop_timer_set(struct loop_timer *timer, int64_t ms);
void loop_timer_stop(struct loop_timer *timer);

#endif
