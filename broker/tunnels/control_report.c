/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_report.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "broker/config/config.h"
#include "broker/store/store.h"
#include "broker/store/usage_report.h"
#include "common/thread.h"
#include "common/xalloc.h"

#define DAY_S 86400

struct control_report {
	int fd;
	bool running;
	pthread_t thread;
	/* the thread's, while it runs */
	int64_t from, to; /* seconds since 1970 */
	char *by;	  /* may be NULL */
	size_t max_bytes;
	json_t *answer;
};

enum err
control_report_new(struct control_report **ret, struct diag *diag)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct control_report *report;

	if (fd == -1) {
		diag_set(diag, "eventfd: %s", strerror(errno));
		return ERR_SYS;
	}
	report = xcalloc(1, sizeof(*report));
	report->fd = fd;
	*ret = report;
	return ERR_OK;
}

void
control_report_free(struct control_report *report)
{
	if (report == NULL)
		return;
	if (report->running)
		json_decref(control_report_take(report));
	(void)close(report->fd);
	free(report);
}

int
control_report_fd(const struct control_report *report)
{
	return report->fd;
}

/* A day that wire.h has checked. */
static int64_t
start_of_day(const char *day)
{
	struct tm tm = { .tm_mday = 0 };

	(void)strptime(day, "%Y-%m-%d", &tm);
	return (int64_t)timegm(&tm);
}

json_t *
control_report_error(enum err err, const struct diag *diag)
{
	return json_pack("{s{ssss}}", "error", "code", err_code(err), "message",
	    diag->text);
}

static void *
run(void *arg)
{
	struct control_report *report = arg;
	struct store *store = store_current();
	struct config *config = config_current();
	struct store_sums sums;
	struct diag diag;
	enum err err = store->ops->sum_usage(store, report->from, report->to,
	    &sums, &diag);

	if (err == ERR_OK) {
		report->answer = usage_report_make(config, &sums, report->by,
		    report->max_bytes);
		store_sums_done(&sums);
	} else {
		report->answer = control_report_error(err, &diag);
	}
	config_unref(config);
	(void)eventfd_write(report->fd, 1);
	return NULL;
}

enum err
control_report_start(struct control_report *report,
    const struct wire_report *question, size_t max_bytes, struct diag *diag)
{
	enum err err;

	if (store_current() == NULL) {
		diag_set(diag,
		    "no usage is kept: there is no `store' in the "
		    "configuration");
		return ERR_UNAVAIL;
	}
	if (report->running) {
		diag_set(diag, "another report is being made: try again");
		return ERR_UNAVAIL;
	}
	report->from = start_of_day(question->from);
	report->to = start_of_day(question->to) + DAY_S;
	report->by = question->by == NULL ? NULL : xstrdup(question->by);
	report->max_bytes = max_bytes;
	err = thread_start(&report->thread, "report", run, report, diag);
	report->running = err == ERR_OK;
	if (err != ERR_OK)
		free(report->by);
	return err;
}

json_t *
control_report_take(struct control_report *report)
{
	eventfd_t value;

	(void)pthread_join(report->thread, NULL);
	(void)eventfd_read(report->fd, &value);
	report->running = false;
	free(report->by);
	return report->answer;
}
