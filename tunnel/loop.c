/* SPDX-License-Identifier: MIT */
#include "tunnel/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <libwebsockets.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/xalloc.h"

#define SCRATCH_BYTES (64 * 1024)
#define SCRATCH_PAGES (SCRATCH_BYTES + 4096) /* LOOP_HEADROOM is in front */
/* watches beside libwebsockets' own descriptors, and one it keeps free */
#define SPARE_SLOTS 8
/* where its descriptors are looked for: they are made early in the process */
#define FIRST_DESCRIPTORS 1024

struct loop_watch {
	struct loop *loop;
	struct lws *wsi; /* NULL once the peer has hung up */
	loop_ready ready;
	void *arg;
	bool want_read, want_write; /* what the owner wants */
	bool reading;		    /* what libwebsockets polls for */
	bool kicked;
	bool freed;
	bool dirty; /* is in loop->dirty */
	struct loop_watch *next;
};

struct loop_timer {
	lws_sorted_usec_list_t sul; /* first: the callback gets its address */
	struct loop *loop;
	loop_expired expired;
	void *arg;
};

struct loop {
	struct lws_context *context;
	struct lws_vhost *vhost;
	struct loop_watch *dirty; /* interest changed, kicked, or freed */
	lws_sorted_usec_list_t wake;
	unsigned watches, max_watches;
	int event_fd; /* libwebsockets' own, -1 where it was not found */
	bool stopped;
	uint8_t *scratch;
};

static void
mark_dirty(struct loop_watch *watch)
{
	if (watch->dirty)
		return;
	watch->dirty = true;
	watch->next = watch->loop->dirty;
	watch->loop->dirty = watch;
}

static void
dispatch(struct loop_watch *watch, bool readable, bool writable)
{
	if (watch->freed)
		return;
	readable = readable && watch->want_read;
	writable = writable && watch->want_write;
	if (readable || writable)
		watch->ready(watch->arg, readable, writable);
}

static int
on_lws_event(struct lws *wsi, enum lws_callback_reasons reason, void *user,
    void *in, size_t len)
{
	struct loop_watch *watch;

	(void)user;
	(void)in;
	(void)len;
	switch ((int)reason) {
	case LWS_CALLBACK_RAW_RX_FILE:
		watch = lws_get_opaque_user_data(wsi);
		dispatch(watch, true, false);
		break;
	case LWS_CALLBACK_RAW_WRITEABLE_FILE:
		/* it stops polling for this after the call: ask again later */
		watch = lws_get_opaque_user_data(wsi);
		mark_dirty(watch);
		dispatch(watch, false, true);
		break;
	case LWS_CALLBACK_RAW_CLOSE_FILE:
		watch = lws_get_opaque_user_data(wsi);
		watch->wsi = NULL;
		mark_dirty(watch);
		break;
	default:
		break;
	}
	return 0;
}

static const struct lws_protocols lws_protocol_list[] = {
	{ .name = "culvert", .callback = on_lws_event },
	{ .name = NULL },
};

/*
 * Mark the eventfds among the first descriptors: they have no file type.
 * libwebsockets does not tell which one is its own.
 */
static void
find_eventfds(bool found[FIRST_DESCRIPTORS])
{
	struct stat st;

	for (int fd = 0; fd < FIRST_DESCRIPTORS; fd++)
		found[fd] = fstat(fd, &st) == 0 && (st.st_mode & S_IFMT) == 0;
}

static int
find_new_eventfd(const bool before[FIRST_DESCRIPTORS])
{
	bool after[FIRST_DESCRIPTORS];

	find_eventfds(after);
	for (int fd = 0; fd < FIRST_DESCRIPTORS; fd++)
		if (after[fd] && !before[fd])
			return fd;
	return -1;
}

enum err
loop_new(unsigned max_watches, struct loop **ret, struct diag *diag)
{
	struct lws_context_creation_info info = {
		.port = CONTEXT_PORT_NO_LISTEN,
		.protocols = lws_protocol_list,
		.gid = (gid_t)-1,
		.uid = (uid_t)-1,
		.fd_limit_per_thread = max_watches + SPARE_SLOTS,
		.vhost_name = "culvert",
	};
	bool before[FIRST_DESCRIPTORS];
	struct loop *loop;

	lws_set_log_level(0, NULL);
	find_eventfds(before);
	loop = xcalloc(1, sizeof(*loop));
	loop->max_watches = max_watches;
	loop->context = lws_create_context(&info);
	if (loop->context != NULL)
		loop->vhost = lws_get_vhost_by_name(loop->context, "culvert");
	if (loop->vhost == NULL) {
		diag_set(diag,
		    "libwebsockets cannot make a context for %u "
		    "descriptors",
		    max_watches);
		loop_free(loop);
		return ERR_SYS;
	}
	loop->event_fd = find_new_eventfd(before);
	/* whole pages, which are there only while they are in use */
	loop->scratch = mmap(NULL, SCRATCH_PAGES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (loop->scratch == MAP_FAILED) {
		loop->scratch = NULL;
		diag_set(diag, "no memory");
		loop_free(loop);
		return ERR_SYS;
	}
	*ret = loop;
	return ERR_OK;
}

enum err
loop_after_fork(struct loop *loop)
{
	int fd;

	/*
	 * libwebsockets signals its eventfd whenever it adopts a descriptor;
	 * a shared one would wake every process at every connection.
	 */
	if (loop->event_fd == -1)
		return ERR_OK;
	fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (fd == -1 || dup3(fd, loop->event_fd, O_CLOEXEC) == -1)
		return ERR_SYS;
	(void)close(fd);
	return ERR_OK;
}

/* Close libwebsockets' side of a watch; never inside its own callback. */
static void
kill_wsi(struct loop_watch *watch)
{
	/* its close callback clears watch->wsi */
	if (watch->wsi != NULL)
		lws_set_timeout(watch->wsi, PENDING_TIMEOUT_USER_REASON_BASE,
		    LWS_TO_KILL_SYNC);
}

/* Free the watches on the list that are to be freed; returns the others. */
static struct loop_watch *
reap(struct loop *loop)
{
	struct loop_watch *list = loop->dirty, *kept = NULL;

	loop->dirty = NULL;
	while (list != NULL) {
		struct loop_watch *watch = list;

		list = watch->next;
		if (watch->freed) {
			kill_wsi(watch);
			loop->watches--;
			free(watch);
			continue;
		}
		watch->next = kept;
		kept = watch;
	}
	return kept;
}

/* Tell libwebsockets what is wanted; true if a callback is due by itself. */
static bool
apply_interest(struct loop_watch *watch)
{
	if (watch->wsi != NULL) {
		if (watch->want_read != watch->reading) {
			watch->reading = watch->want_read;
			(void)lws_rx_flow_control(watch->wsi, watch->reading);
		}
		if (watch->want_write)
			(void)lws_callback_on_writable(watch->wsi);
		return watch->kicked && watch->want_read;
	}
	return watch->want_read || watch->want_write;
}

/*
 * Apply what has changed since the last wait.  This is not done at once
 * because libwebsockets, in a callback, may neither close what called back
 * nor keep a new wish to write.  True if some callback is due without waiting:
 * these stay on the list.
 */
static bool
settle(struct loop *loop)
{
	struct loop_watch *list = reap(loop), *due = NULL;

	while (list != NULL) {
		struct loop_watch *watch = list;

		list = watch->next;
		watch->dirty = apply_interest(watch);
		if (watch->dirty) {
			watch->next = due;
			due = watch;
		}
	}
	loop->dirty = due;
	return due != NULL;
}

/* Call back where it is due without waiting, once for each. */
static void
dispatch_due(struct loop *loop)
{
	struct loop_watch *list = loop->dirty;

	loop->dirty = NULL;
	/* they are off the list, so what the callbacks change starts a new one;
	 * who is freed by another's callback is put on that, and found dead */
	while (list != NULL) {
		struct loop_watch *watch = list;

		list = watch->next;
		watch->dirty = false;
		mark_dirty(watch);
		if (watch->wsi == NULL)
			dispatch(watch, true, true);
		else if (watch->kicked) {
			watch->kicked = false;
			dispatch(watch, true, false);
		}
	}
}

enum err
loop_run(struct loop *loop)
{
	bool due;

	loop->stopped = false;
	while (!loop->stopped) {
		due = settle(loop);
		if (due) {
			dispatch_due(loop);
			due = settle(loop);
		}
		if (loop->stopped)
			break;
		/* negative: look, but do not wait */
		if (lws_service(loop->context, due ? -1 : 0) < 0)
			return ERR_SYS;
	}
	(void)settle(loop);
	return ERR_OK;
}

void
loop_stop(struct loop *loop)
{
	loop->stopped = true;
}

void
loop_free(struct loop *loop)
{
	if (loop == NULL)
		return;
	if (loop->context != NULL) {
		(void)settle(loop);
		lws_context_destroy(loop->context);
	}
	if (loop->scratch != NULL)
		(void)munmap(loop->scratch, SCRATCH_PAGES);
	free(loop);
}

uint8_t *
loop_scratch(struct loop *loop, size_t *ret_size)
{
	*ret_size = SCRATCH_BYTES;
	return loop->scratch + LOOP_HEADROOM;
}

void
loop_rest(struct loop *loop)
{
	(void)madvise(loop->scratch, SCRATCH_PAGES, MADV_DONTNEED);
	(void)malloc_trim(0);
}

enum err
loop_watch_new(struct loop *loop, int fd, loop_ready ready, void *arg,
    struct loop_watch **ret)
{
	lws_adopt_desc_t desc = {
		.vh = loop->vhost,
		.type = LWS_ADOPT_RAW_FILE_DESC,
	};
	struct loop_watch *watch;

	if (loop->watches == loop->max_watches)
		return ERR_LIMIT;
	desc.fd.filefd = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (desc.fd.filefd == -1)
		return ERR_SYS;
	watch = xcalloc(1, sizeof(*watch));
	watch->loop = loop;
	watch->ready = ready;
	watch->arg = arg;
	desc.opaque = watch;
	watch->wsi = lws_adopt_descriptor_vhost_via_info(&desc);
	if (watch->wsi == NULL) {
		(void)close(desc.fd.filefd);
		free(watch);
		return ERR_SYS;
	}
	watch->reading = true; /* how libwebsockets starts */
	loop->watches++;
	mark_dirty(watch);
	*ret = watch;
	return ERR_OK;
}

void
loop_watch_free(struct loop_watch *watch)
{
	if (watch == NULL)
		return;
	watch->freed = true;
	mark_dirty(watch);
}

void
loop_watch_bind(struct loop_watch *watch, loop_ready ready, void *arg)
{
	watch->ready = ready;
	watch->arg = arg;
}

void
loop_watch_set(struct loop_watch *watch, bool read, bool write)
{
	if (watch->want_read == read && watch->want_write == write)
		return;
	watch->want_read = read;
	watch->want_write = write;
	mark_dirty(watch);
}

void
loop_watch_kick(struct loop_watch *watch)
{
	watch->kicked = true;
	mark_dirty(watch);
}

static void
on_wake(lws_sorted_usec_list_t *sul)
{
	(void)sul; /* the wait has ended: that is all */
}

static void
on_sul(lws_sorted_usec_list_t *sul)
{
	/* sul is the first member */
	struct loop_timer *timer = (struct loop_timer *)(void *)sul;
	struct loop *loop = timer->loop;

	timer->expired(timer->arg);
	/*
	 * libwebsockets goes on to wait: with the interest as it is now, and
	 * not at all where a callback is due or loop_stop() was called.
	 */
	if (settle(loop) || loop->stopped)
		lws_sul_schedule(loop->context, 0, &loop->wake, on_wake, 1);
}

struct loop_timer *
loop_timer_new(struct loop *loop, loop_expired expired, void *arg)
{
	struct loop_timer *timer = xcalloc(1, sizeof(*timer));

	timer->loop = loop;
	timer->expired = expired;
	timer->arg = arg;
	return timer;
}

void
loop_timer_free(struct loop_timer *timer)
{
	if (timer == NULL)
		return;
	loop_timer_stop(timer);
	free(timer);
}

void
loop_timer_set(struct loop_timer *timer, int64_t ms)
{
	if (ms < 1)
		ms = 1;
	lws_sul_schedule(timer->loop->context, 0, &timer->sul, on_sul,
	    ms * LWS_US_PER_MS);
}

void
loop_timer_stop(struct loop_timer *timer)
{
	lws_sul_cancel(&timer->sul);
}
