/* SPDX-License-Identifier: MIT */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/err.h"

/*
 * log: one line per event to standard error, "event.name key=value ...".
 *
 * Under systemd (JOURNAL_STREAM) a line starts with the priority, as
 * sd-daemon(3) has it; elsewhere with the UTC time and the program's name.
 * Event names are stable.  Values from peers go through str_escape() first.
 * Tokens, bodies, prompts and query strings never go in.  Lines are cut at
 * 2 KiB.  A line that cannot be written at once is dropped and counted; the
 * next one that can be written says how many are missing.  Thread-safe.
 */
enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARNING = 4,
	LOG_LEVEL_NOTICE = 5,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

/* Set the name and the highest level that is written; call once, first. */
void log_init(const char *program, enum log_level level);

/* "error", "warning", "notice", "info" or "debug"; else ERR_NOTFOUND. */
enum err log_level_parse(const char *name, enum log_level *ret) MUST_CHECK;

void log_error(const char *event, const char *fmt, ...) PRINTF_LIKE(2, 3);
void log_warning(const char *event, const char *fmt, ...) PRINTF_LIKE(2, 3);
void log_notice(const char *event, const char *fmt, ...) PRINTF_LIKE(2, 3);
void log_info(const char *event, const char *fmt, ...) PRINTF_LIKE(2, 3);
void log_debug(const char *event, const char *fmt, ...) PRINTF_LIKE(2, 3);

/*
 * For lines that anybody can bring about as often as he likes: the first
 * max of each per_ms are written, and others counted.  The next one that is
 * written ends in " omitted=N".  Static, one for each place, or shared.
 */
struct log_limit {
	unsigned max;
	int64_t per_ms;
	/* private */
	atomic_uint lines, omitted;
	atomic_llong until_ms;
};

#define LOG_LIMIT_A_MINUTE { .max = 60, .per_ms = 60000 }

/* One of this process and all that are forked from it; for good. */
struct log_limit *log_limit_share(const struct log_limit *limit);

void log_limited(struct log_limit *limit, enum log_level level,
    const char *event, const char *fmt, ...) PRINTF_LIKE(4, 5);

#endif
