/* SPDX-License-Identifier: MIT */
#include "common/log.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

#define LINE_MAX_BYTES 2048
#define ROOM_BYTES     256 /* for what stands before and behind a text */

/* Set once by log_init() before there are threads; then only read. */
static const char *log_program = "culvert";
static enum log_level log_max = LOG_LEVEL_INFO;
static bool log_journal;

static atomic_uint log_dropped;

void
log_init(const char *program, enum log_level level)
{
	log_program = program;
	log_max = level;
	log_journal = getenv("JOURNAL_STREAM") != NULL;
}

enum err
log_level_parse(const char *name, enum log_level *ret)
{
	static const struct {
		const char *name;
		enum log_level level;
	} levels[] = {
		{ "error", LOG_LEVEL_ERROR },
		{ "warning", LOG_LEVEL_WARNING },
		{ "notice", LOG_LEVEL_NOTICE },
		{ "info", LOG_LEVEL_INFO },
		{ "debug", LOG_LEVEL_DEBUG },
	};

	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
		if (strcmp(levels[i].name, name) == 0) {
			*ret = levels[i].level;
			return ERR_OK;
		}
	return ERR_NOTFOUND;
}

/* Where the line's own text starts: after the priority or the time. */
static size_t
put_prefix(char *line, enum log_level level)
{
	struct timespec now;
	struct tm tm;
	size_t n;

	if (log_journal)
		return (size_t)snprintf(line, LINE_MAX_BYTES, "<%d>",
		    (int)level);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	(void)gmtime_r(&now.tv_sec, &tm);
	n = strftime(line, LINE_MAX_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
	return n + (size_t)snprintf(line + n, LINE_MAX_BYTES - n,
	    ".%03ldZ %s[%d] ", now.tv_nsec / 1000000, log_program,
	    (int)getpid());
}

/*
 * Not to wait is said with each write: other processes have the same standard
 * error, and take the room that poll() saw, or mind O_NONBLOCK.  Files and
 * terminals, and pipes before Linux 6.5, do not know it; they are written to.
 */
static ssize_t
write_now(char *line, size_t len)
{
	struct iovec iov = { .iov_base = line, .iov_len = len };
	ssize_t n = pwritev2(STDERR_FILENO, &iov, 1, -1, RWF_NOWAIT);

	if (n == -1 && (errno == EOPNOTSUPP || errno == ENOSYS))
		n = write(STDERR_FILENO, line, len);
	return n;
}

/*
 * Write a whole line, or drop it where the reader is stuck, and count what is
 * missing.  One thread at a time: the room that poll() saw is for the line
 * that it was asked for.
 */
static void
put_line(char *line, size_t len, unsigned missing)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct pollfd pfd = { .fd = STDERR_FILENO, .events = POLLOUT };

	(void)pthread_mutex_lock(&lock);
	if (poll(&pfd, 1, 0) != 1 || (pfd.revents & POLLOUT) == 0 ||
	    write_now(line, len) != (ssize_t)len)
		atomic_fetch_add(&log_dropped, missing);
	(void)pthread_mutex_unlock(&lock);
}

PRINTF_LIKE(3, 0)
static void
log_write(enum log_level level, const char *event, const char *fmt, va_list ap)
{
	char line[LINE_MAX_BYTES + 1];
	unsigned dropped;
	size_t n;
	int len;

	if (level > log_max)
		return;
	dropped = atomic_exchange(&log_dropped, 0);
	if (dropped > 0) {
		n = put_prefix(line, LOG_LEVEL_WARNING);
		n += (size_t)snprintf(line + n, LINE_MAX_BYTES - n,
		    "log.dropped lines=%u\n", dropped);
		put_line(line, n, dropped);
	}
	n = put_prefix(line, level);
	n += (size_t)snprintf(line + n, LINE_MAX_BYTES - n, "%s ", event);
	len = vsnprintf(line + n, LINE_MAX_BYTES - n, fmt, ap);
	n = len < (int)(LINE_MAX_BYTES - n) ? n + (size_t)len :
	    LINE_MAX_BYTES - 1;
	while (n > 0 && line[n - 1] == ' ')
		n--;
	line[n++] = '\n';
	put_line(line, n, 1);
}

#define LOG_FUNCTION(name, level)               \
	void name(const char *event, const char *fmt, ...) \
	{                                       \
		va_list ap;                     \
                                                \
		va_start(ap, fmt);              \
		log_write(level, event, fmt, ap); \
		va_end(ap);                     \
	}

LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)
LOG_FUNCTION(log_warning, LOG_LEVEL_WARNING)
LOG_FUNCTION(log_notice, LOG_LEVEL_NOTICE)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)

/* ---- lines that are limited --------------------------------------------- */

PRINTF_LIKE(3, 4)
static void
log_line(enum log_level level, const char *event, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_write(level, event, fmt, ap);
	va_end(ap);
}

struct log_limit *
log_limit_share(const struct log_limit *limit)
{
	struct log_limit *shared = mmap(NULL, sizeof(*shared),
	    PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		abort(); /* as xalloc */
	shared->max = limit->max;
	shared->per_ms = limit->per_ms;
	return shared;
}

/*
 * True where a line may be written, and how many were not since the last.
 * Without a lock, for processes may die: a race costs the count, not more.
 */
static bool
take_line(struct log_limit *limit, unsigned *ret_omitted)
{
	long long now_ms = clock_ms();
	long long until_ms = atomic_load(&limit->until_ms);

	if (now_ms >= until_ms &&
	    atomic_compare_exchange_strong(&limit->until_ms, &until_ms,
		now_ms + limit->per_ms))
		atomic_store(&limit->lines, 0);
	if (atomic_fetch_add(&limit->lines, 1) < limit->max) {
		*ret_omitted = atomic_exchange(&limit->omitted, 0);
		return true;
	}
	atomic_fetch_add(&limit->omitted, 1);
	return false;
}

void
log_limited(struct log_limit *limit, enum log_level level, const char *event,
    const char *fmt, ...)
{
	char text[LINE_MAX_BYTES - ROOM_BYTES], suffix[24] = "";
	unsigned omitted;
	va_list ap;

	if (level > log_max || !take_line(limit, &omitted))
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (omitted > 0)
		(void)snprintf(suffix, sizeof(suffix), " omitted=%u", omitted);
	log_line(level, event, "%s%s", text, suffix);
}
