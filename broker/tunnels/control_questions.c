/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_questions.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

#include "broker/chat/notify.h"
#include "broker/config/config.h"
#include "broker/limits/budget_report.h"
#include "broker/limits/revocations.h"
#include "broker/store/price.h"
#include "broker/store/store.h"
#include "broker/store/usage_report.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/str.h"
#include "common/thread.h"
#include "common/xalloc.h"

#define DAY_S	     86400
#define REVOCATION_S ((int64_t)30 * DAY_S)

struct question {
	int fd; /* of all of them */
	pthread_t thread;
	void *asker; /* NULL: has left */
	TAILQ_ENTRY(question) entry;
	/* the thread's, until it is done */
	struct wire_packet *packet;
	json_t *users;
	size_t max_bytes;
	json_t *answer;
	atomic_bool done;
};

struct control_questions {
	int fd;
	unsigned count;
	TAILQ_HEAD(, question) list;
};

enum err
control_questions_new(struct control_questions **ret, struct diag *diag)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct control_questions *questions;

	if (fd == -1) {
		diag_set(diag, "eventfd: %s", strerror(errno));
		return ERR_SYS;
	}
	questions = xcalloc(1, sizeof(*questions));
	questions->fd = fd;
	TAILQ_INIT(&questions->list);
	*ret = questions;
	return ERR_OK;
}

/* Wait for its thread, and let go of all but the answer. */
static json_t *
end(struct control_questions *questions, struct question *question)
{
	json_t *answer;

	(void)pthread_join(question->thread, NULL);
	answer = question->answer;
	TAILQ_REMOVE(&questions->list, question, entry);
	questions->count--;
	wire_packet_free(question->packet);
	json_decref(question->users);
	free(question);
	return answer;
}

void
control_questions_free(struct control_questions *questions)
{
	struct question *question;

	if (questions == NULL)
		return;
	while ((question = TAILQ_FIRST(&questions->list)) != NULL)
		json_decref(end(questions, question));
	(void)close(questions->fd);
	free(questions);
}

int
control_questions_fd(const struct control_questions *questions)
{
	return questions->fd;
}

json_t *
control_questions_error(enum err err, const struct diag *diag)
{
	return json_pack("{s{ssss}}", "error", "code", err_code(err), "message",
	    diag->text);
}

/* ---- the answers ------------------------------------------------------- */

/* A day that wire.h has checked. */
static int64_t
start_of_day(const char *day)
{
	struct tm tm = { .tm_mday = 0 };

	(void)strptime(day, "%Y-%m-%d", &tm);
	return (int64_t)timegm(&tm);
}

static enum err
report(struct store *store, const struct config *config,
    const struct wire_report *in, size_t max_bytes, json_t **ret,
    struct diag *diag)
{
	struct store_sums sums;
	enum err err = store->ops->sum_usage(store, start_of_day(in->from),
	    start_of_day(in->to) + DAY_S, &sums, diag);

	if (err != ERR_OK)
		return err;
	*ret = usage_report_make(config, &sums, in->by, max_bytes);
	store_sums_done(&sums);
	return ERR_OK;
}

static json_t *
account_json(const struct config *config, const char *user,
    const struct store_account *account)
{
	char balance[PRICE_TEXT_BYTES], reserved[PRICE_TEXT_BYTES];

	return json_pack("{ss ss sI ss sI ss?}", "user", user, "balance",
	    price_format_micro((uint64_t)account->balance, balance),
	    "balance_micro", (json_int_t)account->balance, "reserved",
	    price_format_micro((uint64_t)account->reserved, reserved),
	    "reserved_micro", (json_int_t)account->reserved, "currency",
	    config_chat_currency(config));
}

static enum err
tell_balance(struct store *store, const struct config *config,
    const struct wire_account *in, json_t **ret, struct diag *diag)
{
	struct store_account account;
	enum err err = store->ops->get_account(store, in->user, &account, diag);

	if (err == ERR_OK)
		*ret = account_json(config, in->user, &account);
	return err;
}

static enum err
top_up(struct store *store, const struct config *config,
    const struct wire_account *in, json_t **ret, struct diag *diag)
{
	bool is_back = in->amount[0] == '-';
	struct store_top_up order = {
		.id = in->id,
		.user = in->user,
		.at = clock_unix(),
	};
	struct store_account account;
	uint64_t micro;
	char *owner;
	enum err err = price_parse(in->amount + is_back, &micro);

	if (err != ERR_OK) {
		diag_set(diag,
		    "an amount is at most a million, with at most "
		    "six decimals");
		return err;
	}
	order.amount = is_back ? -(int64_t)micro : (int64_t)micro;
	err = store->ops->top_up(store, &order, &account, diag);
	if (err != ERR_OK)
		return err;
	log_notice("account.top_up", "id=%s amount=%s", in->id, in->amount);
	owner = xasprintf("u:%s", in->user);
	notify_usage(owner);
	free(owner);
	*ret = account_json(config, in->user, &account);
	(void)json_object_set_new(*ret, "id", json_string(in->id));
	return ERR_OK;
}

/* Whether tunnels or answers can be of a route of this name. */
static bool
has_route(const struct config *config, const char *name)
{
	return config_find_relay_by_name(config, name) != NULL ||
	    (strcmp(name, "anam") == 0 && config->anam != NULL) ||
	    (strcmp(name, "chat") == 0 && config->chat != NULL) ||
	    (strcmp(name, "livekit") == 0 && config->livekit != NULL) ||
	    (strcmp(name, "socket.io") == 0 && config->socketio != NULL);
}

static enum err
add_revocation(const struct config *config, const struct wire_revoke *in,
    json_t **ret, struct diag *diag)
{
	int64_t now = clock_unix();
	int64_t keep_s = config->limits.revocation_s;
	char value[512];
	enum err err = revocations_add(in->kind, in->value,
	    in->before == 0 ? now : in->before,
	    now + (keep_s > 0 ? keep_s : REVOCATION_S), diag);

	if (err != ERR_OK)
		return err;
	log_notice("revocation.add", "kind=%s value=%s", in->kind,
	    str_escape(value, sizeof(value), in->value, strlen(in->value)));
	/* whoever takes it knows how many */
	*ret = json_pack("{si}", "closed", 0);
	if (strcmp(in->kind, "route") == 0)
		(void)json_object_set_new(*ret, "known",
		    json_boolean(has_route(config, in->value)));
	return ERR_OK;
}

static enum err
answer(const struct question *question, struct store *store,
    const struct config *config, json_t **ret, struct diag *diag)
{
	const struct wire_packet *packet = question->packet;

	if (packet->type == WIRE_REPORT)
		return report(store, config, &packet->report,
		    question->max_bytes, ret, diag);
	if (packet->type == WIRE_BUDGETS)
		return budget_report_make(store, config, &packet->budgets,
		    question->users, clock_unix(), question->max_bytes, ret,
		    diag);
	if (packet->type == WIRE_REVOKE)
		return add_revocation(config, &packet->revoke, ret, diag);
	if (packet->type == WIRE_TOP_UP)
		return top_up(store, config, &packet->account, ret, diag);
	return tell_balance(store, config, &packet->account, ret, diag);
}

static void *
run(void *arg)
{
	struct question *question = arg;
	struct config *config = config_current();
	struct diag diag = { "" };
	int fd = question->fd;
	enum err err =
	    answer(question, store_current(), config, &question->answer, &diag);

	if (err != ERR_OK)
		question->answer = control_questions_error(err, &diag);
	config_unref(config);
	atomic_store(&question->done, true);
	(void)eventfd_write(fd, 1);
	return NULL;
}

/* ---- asking ------------------------------------------------------------ */

static enum err
check(const struct control_questions *questions, enum wire_type type,
    struct diag *diag)
{
	const struct question *other;

	if (store_current() == NULL && type != WIRE_REVOKE) {
		diag_set(diag,
		    "nothing is kept: there is no `store' in the "
		    "configuration");
		return ERR_UNAVAIL;
	}
	if (questions->count >= CONTROL_QUESTIONS_MAX) {
		diag_set(diag, "too much is asked at once: try again");
		return ERR_UNAVAIL;
	}
	TAILQ_FOREACH (other, &questions->list, entry)
		if (type == WIRE_REPORT && other->packet->type == type) {
			diag_set(diag,
			    "another report is being made: try again");
			return ERR_UNAVAIL;
		}
	return ERR_OK;
}

enum err
control_questions_ask(struct control_questions *questions,
    struct wire_packet *packet, json_t *users, size_t max_bytes, void *asker,
    struct diag *diag)
{
	struct question *question;
	enum err err = check(questions, packet->type, diag);

	if (err != ERR_OK) {
		wire_packet_free(packet);
		json_decref(users);
		return err;
	}
	question = xcalloc(1, sizeof(*question));
	question->fd = questions->fd;
	question->asker = asker;
	question->packet = packet;
	question->users = users;
	question->max_bytes = max_bytes;
	err = thread_start(&question->thread, "question", run, question, diag);
	if (err != ERR_OK) {
		wire_packet_free(packet);
		json_decref(users);
		free(question);
		return err;
	}
	TAILQ_INSERT_TAIL(&questions->list, question, entry);
	questions->count++;
	return ERR_OK;
}

void
control_questions_leave(struct control_questions *questions, void *asker)
{
	struct question *question;

	TAILQ_FOREACH (question, &questions->list, entry)
		if (question->asker == asker)
			question->asker = NULL;
}

bool
control_questions_take(struct control_questions *questions, void **ret_asker,
    json_t **ret_answer)
{
	struct question *question;
	eventfd_t value;

	/* first, so that no end after the search is missed */
	(void)eventfd_read(questions->fd, &value);
	TAILQ_FOREACH (question, &questions->list, entry)
		if (atomic_load(&question->done)) {
			*ret_asker = question->asker;
			*ret_answer = end(questions, question);
			return true;
		}
	return false;
}
