/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/control_asks.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

#include "broker/config/config.h"
#include "broker/limits/budget.h"
#include "broker/store/ledger.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/thread.h"
#include "common/ws_frame.h"
#include "common/xalloc.h"

#define BEFORE_MAX 64 /* asks that a broker before us may have let open */

/* Most of an event's text, its JSON included, that goes for one token. */
#define TOKEN_BYTES_MAX 8

const struct control_asks_options control_asks_defaults = {
	.wait_ms = 10000,
	.retry_ms = 500,
	.lost_ms = 60000,
	.round_ms = 4000,
};

/* ---- members ----------------------------------------------------------- */

static char *
copy(const char *text)
{
	return text == NULL ? NULL : xstrdup(text);
}

/* What the ledger wants to know of it. */
static struct ask_queue_member *
member_new(const struct lease_info *lease)
{
	struct ask_queue_member *member = xcalloc(1, sizeof(*member));
	struct lease_info *info = &member->info;
	struct store_budgets budgets;

	member->refs = 1;
	(void)memcpy(info->id, lease->id, sizeof(info->id));
	info->session = xstrdup(lease->session);
	info->route = xstrdup(lease->route);
	info->client = xstrdup(lease->client);
	info->user = copy(lease->user);
	info->model = copy(lease->model);
	info->subjects = lease->subjects;
	if (lease->config != NULL)
		info->config = config_ref(lease->config);
	info->started_unix = lease->started_unix;
	subjects_budgets(&info->subjects, &budgets);
	member->counted = budgets.count > 0;
	return member;
}

/* Ids are random, in hexadecimal digits. */
static struct ask_queue_members *
bucket_of(struct control_asks *asks, const char *id)
{
	unsigned hash = 0;

	for (; *id != '\0'; id++)
		hash = hash * 31 + (unsigned char)*id;
	return &asks->members[hash % ASK_QUEUE_BUCKETS];
}

static struct ask_queue_member *
find(struct control_asks *asks, const char *id)
{
	struct ask_queue_member *member;

	LIST_FOREACH (member, bucket_of(asks, id), entry)
		if (strcmp(member->info.id, id) == 0)
			return member;
	return NULL;
}

static void
result_free(struct control_asks *asks, struct ask_queue_result *result)
{
	TAILQ_REMOVE(&asks->results, result, entry);
	if (result->member->ack == result)
		result->member->ack = NULL;
	ask_queue_unref(result->member);
	free(result);
}

/* ---- what the ledger says ---------------------------------------------- */

static void
on_booked(void *arg, const char *lease, int64_t n)
{
	struct control_asks *asks = arg;
	struct ask_queue_member *member;

	(void)pthread_mutex_lock(&asks->lock);
	member = find(asks, lease);
	if (member != NULL)
		ask_queue_wake(asks, &member->info.subjects);
	if (member != NULL && n < 0 && member->lost > 0) {
		member->lost--;
		ask_queue_check_end(asks, member);
	}
	if (member != NULL && member->owner != NULL && n > 0) {
		if (member->ack == NULL)
			member->ack = ask_queue_post(asks, member,
			    wire_packet_new(WIRE_ACK));
		if (n > member->ack->packet->ack.n)
			member->ack->packet->ack.n = n;
	}
	(void)pthread_mutex_unlock(&asks->lock);
}

static void
on_spent(void *arg, const char *lease, const struct store_budget_state *state)
{
	struct control_asks *asks = arg;
	struct wire_packet *packet;
	struct ask_queue_member *member;

	(void)pthread_mutex_lock(&asks->lock);
	member = find(asks, lease);
	if (member != NULL && member->owner != NULL && !member->spent) {
		member->spent = true;
		packet = wire_packet_new(WIRE_CLOSE);
		packet->close.code = WS_CODE_BUDGET;
		packet->close.reason = xstrdup(err_text(ERR_BUDGET));
		(void)ask_queue_post(asks, member, packet);
		ask_queue_log_spent(member, state);
	}
	(void)pthread_mutex_unlock(&asks->lock);
}

/* ---- the control server's calls ---------------------------------------- */

void
control_asks_join(struct control_asks *asks, const struct lease_info *lease,
    void *owner)
{
	struct ask_queue_member *member;

	(void)pthread_mutex_lock(&asks->lock);
	member = find(asks, lease->id);
	if (member == NULL) {
		member = member_new(lease);
		LIST_INSERT_HEAD(bucket_of(asks, lease->id), member, entry);
		if (asks->member_count++ == 0)
			(void)pthread_cond_signal(&asks->wake);
	} else if (member->owner == NULL)
		asks->lost_count--;
	member->owner = owner;
	member->taken_over = false;
	(void)pthread_mutex_unlock(&asks->lock);
}

void
control_asks_replan(struct control_asks *asks, const struct lease_info *lease)
{
	struct store_budgets budgets;
	struct ask_queue_member *member;

	(void)pthread_mutex_lock(&asks->lock);
	member = find(asks, lease->id);
	if (member != NULL) {
		config_unref(member->info.config);
		member->info.config = config_ref(lease->config);
		member->info.subjects = lease->subjects;
		subjects_budgets(&member->info.subjects, &budgets);
		member->counted = budgets.count > 0;
	}
	(void)pthread_mutex_unlock(&asks->lock);
}

/* Locked. */
static enum err
take_in(struct control_asks *asks, struct ask_queue_member *member,
    const struct wire_ask *ask, struct diag *diag)
{
	int64_t n = ask->n;
	struct ask_queue_open *open = ask_queue_find_open(member, n);

	if (open != NULL && open->stage == ASK_QUEUE_ASKED) {
		diag_set(diag, "the same is asked twice");
		return ERR_PROTO;
	}
	if (asks->queue_count >= ASK_QUEUE_MAX) {
		diag_set(diag, "too many ask at once");
		return ERR_LIMIT;
	}
	if (open == NULL && member->open_count == WIRE_ASKS_MAX) {
		diag_set(diag, "more than %d asks are open", WIRE_ASKS_MAX);
		return ERR_LIMIT;
	}
	/* whose answer a broker before us may not have sent */
	if (open != NULL)
		open->stage = ASK_QUEUE_ASKED;
	else
		member->open[member->open_count++] = (struct ask_queue_open){
			.n = n,
			.input_bytes = (int64_t)ask->input_bytes,
		};
	if (n > member->asked)
		member->asked = n;
	ask_queue_reserve(asks, member, ask);
	return ERR_OK;
}

enum err
control_asks_ask(struct control_asks *asks, const struct lease_info *lease,
    const struct wire_ask *ask, struct diag *diag)
{
	struct ask_queue_member *member;
	enum err err;

	(void)pthread_mutex_lock(&asks->lock);
	member = find(asks, lease->id);
	assert(member != NULL);
	err = take_in(asks, member, ask, diag);
	(void)pthread_mutex_unlock(&asks->lock);
	return err;
}

/*
 * A response tells what its input costs, but not more of it than it can have
 * taken in: who asks for one of a few words beside a long conversation does not
 * make that one short.
 */
static void
learn(struct ask_queue_member *member, const struct ask_queue_open *open,
    const json_t *event)
{
	const json_t *usage = json_object_get(event, "usage");
	int64_t unknown = open->input_bytes - member->known_bytes, tokens;

	if (json_get_int(usage, "total_tokens", 0, STORE_TOKENS_MAX, &tokens) !=
		ERR_OK ||
	    unknown <= 0)
		return;
	tokens *= TOKEN_BYTES_MAX;
	member->known_bytes += unknown < tokens ? unknown : tokens;
}

/* What has a row is settled with it. */
static void
end_settled(struct ask_queue_member *member, const json_t *events)
{
	for (size_t i = 0; i < json_array_size(events); i++) {
		const json_t *event = json_array_get(events, i);
		struct ask_queue_open *open;
		int64_t n;

		if (json_get_int(event, "ask", 1, INT64_MAX, &n) != ERR_OK)
			continue;
		open = ask_queue_find_open(member, n);
		if (open == NULL)
			continue;
		learn(member, open, event);
		ask_queue_remove_open(member, open);
	}
}

static bool
is_open(const struct wire_usage *usage, int64_t n)
{
	for (size_t i = 0; i < usage->open_count; i++)
		if (usage->open[i] == n)
			return true;
	return false;
}

/* The others of those that it knows of come to nothing. */
static void
end_over(struct control_asks *asks, struct ask_queue_member *member,
    const struct wire_usage *usage)
{
	for (size_t i = member->open_count; i-- > 0;) {
		struct ask_queue_open *open = &member->open[i];

		if (open->n > usage->asked || is_open(usage, open->n))
			continue;
		/* one that is asked for now is released when it is there */
		if (open->stage != ASK_QUEUE_ASKED)
			ask_queue_release(asks, member, open->n);
		ask_queue_remove_open(member, open);
	}
}

/* Asks of which a broker before us knew. */
static void
take_over(struct control_asks *asks, struct ask_queue_member *member,
    const struct wire_usage *usage)
{
	struct budget_ask ask = ask_queue_make_ask(member, 0, "");
	struct ask_queue_open open = { .stage = ASK_QUEUE_SENT };
	int64_t first = usage->asked - BEFORE_MAX;

	/* once: whoever says that he has asked for more has not, and each of
	   them would cost a release */
	if (usage->asked <= member->asked || member->taken_over)
		return;
	member->taken_over = true;
	if (first < member->asked)
		first = member->asked;
	if (member->info.config != NULL)
		budget_estimate(&ask, &open.tokens, &open.money);
	for (open.n = first + 1; open.n <= usage->asked; open.n++)
		if (!is_open(usage, open.n))
			ask_queue_release(asks, member, open.n);
		else if (ask_queue_find_open(member, open.n) == NULL &&
		    member->open_count < WIRE_ASKS_MAX)
			member->open[member->open_count++] = open;
	member->asked = usage->asked;
}

void
control_asks_report(struct control_asks *asks, const struct lease_info *lease,
    const struct wire_usage *usage)
{
	struct ledger_largest largest = { .tokens = 0 };
	struct ask_queue_member *member;

	(void)pthread_mutex_lock(&asks->lock);
	member = find(asks, lease->id);
	if (member != NULL)
		end_settled(member, usage->events);
	(void)pthread_mutex_unlock(&asks->lock);
	/* it may call us back */
	ledger_add(lease, usage->events, &largest);
	ledger_add_seconds(lease, largest.unasked);
	(void)pthread_mutex_lock(&asks->lock);
	member = find(asks, lease->id);
	if (member != NULL) {
		if (largest.tokens > member->largest.tokens)
			member->largest.tokens = largest.tokens;
		if (largest.money > member->largest.money)
			member->largest.money = largest.money;
		take_over(asks, member, usage);
		end_over(asks, member, usage);
	}
	(void)pthread_mutex_unlock(&asks->lock);
}

/* Answers that it will not get. */
static void
drop_results(struct control_asks *asks, const struct ask_queue_member *member)
{
	struct ask_queue_result *result, *next;

	for (result = TAILQ_FIRST(&asks->results); result != NULL;
	     result = next) {
		next = TAILQ_NEXT(result, entry);
		if (result->member != member)
			continue;
		wire_packet_free(result->packet);
		result_free(asks, result);
	}
}

/* Locked: forget asks that have cost nothing. */
static void
end_unsent(struct control_asks *asks, struct ask_queue_member *member)
{
	for (size_t i = member->open_count; i-- > 0;) {
		struct ask_queue_open *open = &member->open[i];

		if (open->stage == ASK_QUEUE_ALLOWED)
			ask_queue_release(asks, member, open->n);
		if (open->stage != ASK_QUEUE_SENT)
			ask_queue_remove_open(member, open);
	}
}

void
control_asks_end(struct control_asks *asks, const struct lease_info *lease)
{
	struct ask_queue_member *member;

	(void)pthread_mutex_lock(&asks->lock);
	member = find(asks, lease->id);
	if (member != NULL) {
		end_unsent(asks, member);
		ask_queue_book_open(member);
		member->ended = true;
		ask_queue_check_end(asks, member);
	}
	(void)pthread_mutex_unlock(&asks->lock);
}

/* Locked. */
static void
leave(struct control_asks *asks, struct ask_queue_member *member,
    enum control_asks_end end)
{
	member->owner = NULL;
	drop_results(asks, member);
	end_unsent(asks, member);
	if (end == CONTROL_ASKS_LOST && member->open_count > 0 &&
	    asks->lost_count < ASK_QUEUE_LOST) {
		asks->lost_count++;
		member->lost_ms = clock_ms() + asks->options.lost_ms;
		return;
	}
	/* what it has asked for after its end, or nobody waits for */
	if (end != CONTROL_ASKS_STOPPED)
		ask_queue_book_open(member);
	ask_queue_forget(asks, member);
}

void
control_asks_leave(struct control_asks *asks, const struct lease_info *lease,
    enum control_asks_end end)
{
	struct ask_queue_member *member;

	(void)pthread_mutex_lock(&asks->lock);
	member = find(asks, lease->id);
	if (member != NULL && member->owner != NULL) {
		/* it did not say how long it has lasted */
		if (end == CONTROL_ASKS_LOST)
			ledger_add_seconds(lease, false);
		leave(asks, member, end);
	}
	(void)pthread_mutex_unlock(&asks->lock);
}

bool
control_asks_take(struct control_asks *asks, void **ret_owner,
    struct wire_packet **ret)
{
	struct ask_queue_result *result;
	struct ask_queue_open *open;
	eventfd_t value;

	/* first, so that nothing that is posted later is missed */
	(void)eventfd_read(asks->fd, &value);
	(void)pthread_mutex_lock(&asks->lock);
	result = TAILQ_FIRST(&asks->results);
	if (result != NULL) {
		*ret_owner = result->member->owner;
		*ret = result->packet;
		open = (*ret)->type == WIRE_ANSWER && (*ret)->answer.allowed
		    ? ask_queue_find_open(result->member, (*ret)->answer.n)
		    : NULL;
		if (open != NULL)
			open->stage = ASK_QUEUE_SENT;
		result_free(asks, result);
	}
	(void)pthread_mutex_unlock(&asks->lock);
	return result != NULL;
}

/* ---- start and stop ---------------------------------------------------- */

static void
asks_free(struct control_asks *asks)
{
	struct ask_queue_member *member;
	struct ask_queue_result *result;
	struct ask_queue_work *work;

	while ((result = TAILQ_FIRST(&asks->results)) != NULL) {
		wire_packet_free(result->packet);
		result_free(asks, result);
	}
	TAILQ_CONCAT(&asks->queue, &asks->waiting, entry);
	while ((work = TAILQ_FIRST(&asks->queue)) != NULL) {
		TAILQ_REMOVE(&asks->queue, work, entry);
		ask_queue_drop(asks, work);
	}
	for (size_t i = 0; i < ASK_QUEUE_BUCKETS; i++)
		while ((member = LIST_FIRST(&asks->members[i])) != NULL)
			ask_queue_forget(asks, member);
	(void)pthread_cond_destroy(&asks->wake);
	(void)pthread_mutex_destroy(&asks->lock);
	(void)close(asks->fd);
	free(asks);
}

enum err
control_asks_new(const struct control_asks_options *options,
    struct control_asks **ret, struct diag *diag)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct control_asks *asks;
	pthread_condattr_t attr;
	enum err err;

	if (fd == -1) {
		diag_set(diag, "eventfd: %s", strerror(errno));
		return ERR_SYS;
	}
	asks = xcalloc(1, sizeof(*asks));
	asks->options = *options;
	asks->fd = fd;
	TAILQ_INIT(&asks->queue);
	TAILQ_INIT(&asks->waiting);
	TAILQ_INIT(&asks->results);
	(void)pthread_mutex_init(&asks->lock, NULL);
	(void)pthread_condattr_init(&attr);
	(void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&asks->wake, &attr);
	(void)pthread_condattr_destroy(&attr);
	err = thread_start(&asks->thread, "asks", ask_queue_run, asks, diag);
	if (err != ERR_OK) {
		asks_free(asks);
		return err;
	}
	ledger_listen(&(const struct ledger_listener){
	    .booked = on_booked,
	    .spent = on_spent,
	    .arg = asks,
	});
	*ret = asks;
	return ERR_OK;
}

void
control_asks_free(struct control_asks *asks)
{
	if (asks == NULL)
		return;
	ledger_listen(NULL);
	(void)pthread_mutex_lock(&asks->lock);
	asks->stopping = true;
	(void)pthread_cond_signal(&asks->wake);
	(void)pthread_mutex_unlock(&asks->lock);
	(void)pthread_join(asks->thread, NULL);
	asks_free(asks);
}

int
control_asks_fd(const struct control_asks *asks)
{
	return asks->fd;
}
