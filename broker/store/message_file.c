/* SPDX-License-Identifier: MIT */
#include "broker/store/message_file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/log.h"
#include "common/thread.h"
#include "common/xalloc.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define KEEP_MAX 1000

/* A path that was written to; it stays until the end. */
struct target {
	char *path;
	uint64_t dropped; /* records, since the file was told */
	bool failing;	  /* the log was told */
	SLIST_ENTRY(target) entry;
};

/* The lines of one report. */
struct item {
	struct target *target;
	uint64_t max_bytes;
	unsigned keep;
	char *text;
	size_t len;
	uint64_t records;
	STAILQ_ENTRY(item) entry;
};

struct writer {
	pthread_t thread;
	pthread_mutex_t lock; /* over all that follows */
	pthread_cond_t wake;
	SLIST_HEAD(, target) targets;
	STAILQ_HEAD(, item) queue;
	size_t bytes, max_bytes;
	bool stopping;
};

/* Whoever reports holds it while it does. */
static pthread_rwlock_t current_lock = PTHREAD_RWLOCK_INITIALIZER;
static struct writer *current;

/* ---- from records to lines ---------------------------------------------- */

static void
put_text(json_t *line, const char *name, const char *text)
{
	if (text != NULL)
		(void)json_object_set_new(line, name, json_string(text));
}

static json_t *
begin_line(const struct lease_info *lease)
{
	json_t *line = json_object();

	put_text(line, "session", lease->session);
	put_text(line, "lease", lease->id);
	put_text(line, "route", lease->route);
	put_text(line, "client", lease->client);
	put_text(line, "user", lease->user);
	return line;
}

/* Takes the line. */
static void
print_line(FILE *out, json_t *line)
{
	size_t len;
	char *text = json_text(line, &len);

	(void)fprintf(out, "%s\n", text);
	explicit_bzero(text, len);
	free(text);
	json_decref(line);
}

static void
print_dropped(FILE *out, json_t *line, uint64_t count)
{
	(void)json_object_set_new(line, "at",
	    json_integer((json_int_t)clock_unix() * 1000));
	(void)json_object_set_new(line, "dropped",
	    json_integer((json_int_t)count));
	print_line(out, line);
}

/*
 * What a tunnel says stands after what we know, and not in its place: it says
 * nothing of whose message it was, even where we do not know.
 */
static void
print_record(FILE *out, const struct lease_info *lease, const json_t *record,
    bool content)
{
	static const char *const names[] = { "at", "from", "kind", "bytes",
		"type", "truncated", "content", "text" };
	json_t *line = begin_line(lease), *value;
	/* a reload may have changed what a tunnel was told */
	size_t count = COUNT(names) - (content ? 0 : 2);

	for (size_t i = 0; i < count; i++) {
		value = json_object_get(record, names[i]);
		if (value != NULL)
			(void)json_object_set(line, names[i], value);
	}
	print_line(out, line);
}

static struct item *
make_item(const struct message_file *file, const struct lease_info *lease,
    const struct wire_log *log)
{
	struct item *item = xcalloc(1, sizeof(*item));
	FILE *out = open_memstream(&item->text, &item->len);

	if (out == NULL)
		abort(); /* no memory */
	if (log->dropped > 0)
		print_dropped(out, begin_line(lease), log->dropped);
	for (size_t i = 0; i < json_array_size(log->records); i++)
		print_record(out, lease, json_array_get(log->records, i),
		    file->content);
	if (fclose(out) != 0)
		abort();
	item->max_bytes = file->max_bytes;
	item->keep = file->keep < KEEP_MAX ? file->keep : KEEP_MAX;
	item->records = json_array_size(log->records);
	return item;
}

static void
item_free(struct item *item)
{
	explicit_bzero(item->text, item->len);
	free(item->text);
	free(item);
}

/* ---- the queue --------------------------------------------------------- */

/* Locked. */
static struct target *
get_target(struct writer *writer, const char *path)
{
	struct target *target;

	SLIST_FOREACH (target, &writer->targets, entry)
		if (strcmp(target->path, path) == 0)
			return target;
	target = xcalloc(1, sizeof(*target));
	target->path = xstrdup(path);
	SLIST_INSERT_HEAD(&writer->targets, target, entry);
	return target;
}

/* Locked; the first of many is logged. */
static void
drop(struct item *item, const char *reason)
{
	struct target *target = item->target;

	if (!target->failing)
		log_warning("messages.dropped", "file=%s reason=\"%s\"",
		    target->path, reason);
	target->failing = true;
	target->dropped += item->records;
	item_free(item);
}

static void
push(struct writer *writer, const char *path, struct item *item)
{
	(void)pthread_mutex_lock(&writer->lock);
	item->target = get_target(writer, path);
	if (item->len <= writer->max_bytes - writer->bytes) {
		writer->bytes += item->len;
		STAILQ_INSERT_TAIL(&writer->queue, item, entry);
		(void)pthread_cond_signal(&writer->wake);
	} else {
		drop(item, "they come faster than they can be written");
	}
	(void)pthread_mutex_unlock(&writer->lock);
}

void
message_file_write(const struct message_file *file,
    const struct lease_info *lease, const struct wire_log *log)
{
	(void)pthread_rwlock_rdlock(&current_lock);
	if (current != NULL &&
	    (log->dropped > 0 || json_array_size(log->records) > 0))
		push(current, file->path, make_item(file, lease, log));
	(void)pthread_rwlock_unlock(&current_lock);
}

/* ---- the file ---------------------------------------------------------- */

/* FILE.1 becomes FILE.2, ..., FILE becomes FILE.1. */
static bool
put_aside(const char *path, unsigned keep)
{
	bool ok = true;

	if (keep == 0)
		return unlink(path) == 0;
	for (unsigned i = keep; ok && i > 0; i--) {
		char *from =
		    i == 1 ? xstrdup(path) : xasprintf("%s.%u", path, i - 1);
		char *to = xasprintf("%s.%u", path, i);

		ok = rename(from, to) == 0 || errno == ENOENT;
		free(from);
		free(to);
	}
	return ok;
}

/* To append; a pipe or a device would make us wait. */
static int
open_file(const char *path, off_t *ret_size)
{
	int fd = open(path,
	    O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK,
	    0600);
	struct stat st;

	if (fd == -1)
		return -1;
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode)) {
		(void)close(fd);
		errno = EINVAL;
		return -1;
	}
	*ret_size = st.st_size;
	return fd;
}

/* The file with room for so much more; what is longer has it for itself. */
static int
open_with_room(const struct item *item, size_t len, off_t *ret_size)
{
	const char *path = item->target->path;
	int fd = open_file(path, ret_size);

	if (fd == -1 || item->max_bytes == 0 || *ret_size == 0 ||
	    (uint64_t)*ret_size + len <= item->max_bytes)
		return fd;
	(void)close(fd);
	return put_aside(path, item->keep) ? open_file(path, ret_size) : -1;
}

/* All of it, or nothing: a line that was begun is taken back. */
static bool
append(const struct item *item, const char *text, size_t len)
{
	size_t written = 0;
	ssize_t n = 0;
	off_t size;
	int fd = open_with_room(item, len, &size), error;

	if (fd == -1)
		return false;
	while (written < len && n != -1) {
		n = write(fd, text + written, len - written);
		if (n > 0)
			written += (size_t)n;
	}
	error = errno;
	if (n == -1 && ftruncate(fd, size) == -1)
		error = errno;
	(void)close(fd);
	errno = error;
	return n != -1;
}

/* An item with a line before it of what is missing before it. */
static bool
write_item(const struct item *item, uint64_t dropped)
{
	char *text;
	size_t len;
	FILE *out;
	bool ok;

	if (dropped == 0)
		return append(item, item->text, item->len);
	out = open_memstream(&text, &len);
	if (out == NULL)
		abort();
	print_dropped(out, json_object(), dropped);
	(void)fwrite(item->text, item->len, 1, out);
	if (fclose(out) != 0)
		abort();
	ok = append(item, text, len);
	explicit_bzero(text, len);
	free(text);
	return ok;
}

/* ---- the thread -------------------------------------------------------- */

/* Locked but while it writes. */
static void
take_item(struct writer *writer, struct item *item)
{
	struct target *target = item->target;
	uint64_t dropped = target->dropped;
	char reason[128];
	bool ok;

	(void)pthread_mutex_unlock(&writer->lock);
	ok = write_item(item, dropped);
	if (!ok)
		(void)snprintf(reason, sizeof(reason), "%s", strerror(errno));
	(void)pthread_mutex_lock(&writer->lock);
	writer->bytes -= item->len;
	if (!ok) {
		drop(item, reason);
		return;
	}
	if (dropped > 0)
		log_warning("messages.lost", "file=%s records=%llu",
		    target->path, (unsigned long long)dropped);
	target->dropped -= dropped;
	target->failing = target->dropped > 0;
	item_free(item);
}

static void *
run(void *arg)
{
	struct writer *writer = arg;
	struct item *item;

	(void)pthread_mutex_lock(&writer->lock);
	for (;;) {
		item = STAILQ_FIRST(&writer->queue);
		if (item != NULL) {
			STAILQ_REMOVE_HEAD(&writer->queue, entry);
			take_item(writer, item);
		} else if (writer->stopping) {
			break;
		} else {
			(void)pthread_cond_wait(&writer->wake, &writer->lock);
		}
	}
	(void)pthread_mutex_unlock(&writer->lock);
	return NULL;
}

/* ---- start and stop ---------------------------------------------------- */

static void
writer_free(struct writer *writer)
{
	struct target *target;

	while ((target = SLIST_FIRST(&writer->targets)) != NULL) {
		SLIST_REMOVE_HEAD(&writer->targets, entry);
		if (target->dropped > 0)
			log_warning("messages.lost", "file=%s records=%llu",
			    target->path, (unsigned long long)target->dropped);
		free(target->path);
		free(target);
	}
	(void)pthread_cond_destroy(&writer->wake);
	(void)pthread_mutex_destroy(&writer->lock);
	free(writer);
}

static void
set_current(struct writer *writer)
{
	(void)pthread_rwlock_wrlock(&current_lock);
	current = writer;
	(void)pthread_rwlock_unlock(&current_lock);
}

enum err
message_file_start(size_t max_bytes, struct diag *diag)
{
	struct writer *writer = xcalloc(1, sizeof(*writer));
	enum err err;

	(void)pthread_mutex_init(&writer->lock, NULL);
	(void)pthread_cond_init(&writer->wake, NULL);
	SLIST_INIT(&writer->targets);
	STAILQ_INIT(&writer->queue);
	writer->max_bytes = max_bytes;
	err = thread_start(&writer->thread, "messages", run, writer, diag);
	if (err == ERR_OK)
		set_current(writer);
	else
		writer_free(writer);
	return err;
}

void
message_file_stop(void)
{
	struct writer *writer = current;

	if (writer == NULL)
		return;
	set_current(NULL);
	(void)pthread_mutex_lock(&writer->lock);
	writer->stopping = true;
	(void)pthread_cond_signal(&writer->wake);
	(void)pthread_mutex_unlock(&writer->lock);
	(void)pthread_join(writer->thread, NULL);
	writer_free(writer);
}
