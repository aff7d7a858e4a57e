/* SPDX-License-Identifier: MIT */
#include "broker/limits/admission.h"

#include <inttypes.h>
#include <stdio.h>

#include "broker/limits/buckets.h"
#include "broker/limits/budget.h"
#include "common/clock.h"

static void
add_state(struct request *req, const struct buckets_state *state)
{
	char value[BUCKETS_HEADER_SIZE];

	buckets_format_policy(state, value);
	request_add_header(req, "RateLimit-Policy", value);
	buckets_format_limit(state, value);
	request_add_header(req, "RateLimit", value);
}

static void
add_retry_after(struct request *req, int64_t retry_after_s)
{
	char value[BUCKETS_HEADER_SIZE];

	(void)snprintf(value, sizeof(value), "%" PRId64, retry_after_s);
	request_add_header(req, "Retry-After", value);
}

static enum err
take(struct request *req, const struct subjects *subjects,
    int64_t *ret_retry_after_s, struct diag *diag)
{
	struct buckets_state state;
	enum err err = buckets_take(subjects, clock_ms(), &state, diag);

	*ret_retry_after_s = buckets_seconds(state.retry_after_ms);
	if (state.plan != NULL)
		add_state(req, &state);
	return err;
}

enum err
admission_ask_address(struct request *req, int64_t *ret_retry_after_s,
    struct diag *diag)
{
	struct subjects subjects;

	subjects_fill_address(request_config(req), request_client(req),
	    &subjects);
	return take(req, &subjects, ret_retry_after_s, diag);
}

enum err
admission_ask(struct request *req, const struct subjects *subjects,
    int64_t *ret_retry_after_s, struct diag *diag)
{
	struct subjects others = { .count = 0 };

	for (size_t i = 0; i < subjects->count; i++)
		if (subjects->items[i].name[0] != 'n')
			others.items[others.count++] = subjects->items[i];
	return take(req, &others, ret_retry_after_s, diag);
}

enum err
admission_check_address(struct request *req, struct diag *diag)
{
	int64_t retry_after_s;
	enum err err = admission_ask_address(req, &retry_after_s, diag);

	if (err != ERR_OK)
		add_retry_after(req, retry_after_s);
	return err;
}

enum err
admission_check(struct request *req, const struct subjects *subjects,
    struct diag *diag)
{
	int64_t retry_after_s;
	enum err err = admission_ask(req, subjects, &retry_after_s, diag);

	if (err != ERR_OK)
		add_retry_after(req, retry_after_s);
	return err;
}

/* What goes past us later cannot be stopped: it is not begun. */
static enum err
check_day(struct request *req, const struct subjects *subjects,
    struct diag *diag)
{
	struct store *store = store_current();
	struct store_budget_state state;
	struct store_budgets budgets;
	int64_t now = clock_unix();
	enum err err;

	subjects_budgets(subjects, &budgets);
	if (store == NULL || budgets.count == 0)
		return ERR_OK;
	err = store->ops->check_budgets(store, &budgets, now, &state, diag);
	if (err == ERR_BUDGET)
		admission_add_budget(req, &state, now);
	return err;
}

bool
admission_admits(struct request *req, const struct subjects_request *who)
{
	struct subjects_request request = *who;
	struct subjects subjects;
	struct diag diag = { "" };
	enum err err;

	request.address = request_client(req);
	subjects_fill(request_config(req), &request, &subjects);
	err = admission_check(req, &subjects, &diag);
	if (err == ERR_OK)
		err = check_day(req, &subjects, &diag);
	if (err != ERR_OK)
		request_reply_error(req, err, diag.text);
	return err == ERR_OK;
}

void
admission_add_budget(struct request *req,
    const struct store_budget_state *state, int64_t now)
{
	int64_t left_s = budget_resets_in_s(state, now);
	char value[BUDGET_HEADER_SIZE];

	budget_format_limit(left_s, value);
	request_add_header(req, "RateLimit", value);
	add_retry_after(req, left_s);
}
