/* SPDX-License-Identifier: MIT */
#include "broker/limits/subjects.h"

#include <stdio.h>
#include <string.h>

#include "broker/http/address.h"
#include "common/crypt.h"

/*
 * "KIND:TEXT".  What is too long for a name is told apart by its digest, behind
 * a character that no anonymous id and no path begins with.
 */
void
subjects_write_name(char kind, const char *text,
    char out[STORE_SUBJECT_MAX + 1])
{
	char visitor[ADDRESS_VISITOR_SIZE];
	uint8_t digest[20];
	int len;

	if (kind == 'n') {
		address_visitor(text, visitor);
		text = visitor;
	}
	if (snprintf(out, STORE_SUBJECT_MAX + 1, "%c:%s", kind, text) <=
	    STORE_SUBJECT_MAX)
		return;
	crypt_sha1(text, strlen(text), digest);
	len = snprintf(out, STORE_SUBJECT_MAX + 1, "%c:#", kind);
	for (size_t i = 0; i < sizeof(digest); i++)
		len += snprintf(out + len,
		    (size_t)(STORE_SUBJECT_MAX + 1 - len), "%02x", digest[i]);
}

static void
add(struct subjects *subjects, char kind, const char *text,
    const struct config_plan *plan)
{
	struct subject *subject = &subjects->items[subjects->count++];

	subjects_write_name(kind, text, subject->name);
	subject->plan = plan;
}

/* The plan that a user's token names, where there is one of that name. */
static const struct config_plan *
plan_of_user(const struct config *config, const char *name)
{
	const struct config_plan *plan = config_find_plan(config, name);

	return plan != NULL ? plan
			    : config_find_plan(config, config->limits.user);
}

void
subjects_fill(const struct config *config,
    const struct subjects_request *request, struct subjects *ret)
{
	char visitor[ADDRESS_VISITOR_SIZE], id[ADDRESS_VISITOR_SIZE + 1];

	address_visitor(request->address, visitor);
	(void)snprintf(id, sizeof(id), "@%s", visitor);
	ret->count = 0;
	if (request->user != NULL)
		add(ret, 'u', request->user,
		    plan_of_user(config, request->plan));
	else
		add(ret, 'a', request->anon_id != NULL ? request->anon_id : id,
		    config_find_plan(config, config->limits.anonymous));
	add(ret, 'n', request->address,
	    config_find_plan(config, config->limits.address));
	if (request->route != NULL)
		add(ret, 'r', request->route,
		    config_find_plan(config, request->route_plan));
}

void
subjects_fill_address(const struct config *config, const char *address,
    struct subjects *ret)
{
	ret->count = 0;
	add(ret, 'n', address,
	    config_find_plan(config, config->limits.address));
}

void
subjects_budgets(const struct subjects *subjects, struct store_budgets *ret)
{
	ret->count = 0;
	for (size_t i = 0; i < subjects->count; i++) {
		const struct subject *subject = &subjects->items[i];
		const struct config_plan *plan = subject->plan;

		if (plan != NULL &&
		    (plan->day_tokens > 0 || plan->day_money > 0 ||
			plan->day_s > 0))
			ret->items[ret->count++] = (struct store_budget){
				.subject = subject->name,
				.max_tokens = plan->day_tokens,
				.max_money = plan->day_money,
				.max_seconds = plan->day_s,
			};
	}
}

bool
subjects_have_budget(const struct subjects *subjects)
{
	for (size_t i = 0; i < subjects->count; i++) {
		const struct config_plan *plan = subjects->items[i].plan;

		if (plan != NULL &&
		    (plan->day_tokens > 0 || plan->day_money > 0))
			return true;
	}
	return false;
}

/* The smaller one; 0 is no limit. */
static uint64_t
narrow(uint64_t a, uint64_t b)
{
	if (a == 0 || b == 0)
		return a + b;
	return a < b ? a : b;
}

void
subjects_limit_tunnel(const struct subjects *subjects,
    struct wire_limits *limits)
{
	for (size_t i = 0; i < subjects->count; i++) {
		const struct config_plan *plan = subjects->items[i].plan;

		if (plan == NULL)
			continue;
		limits->lifetime_ms =
		    (int64_t)narrow((uint64_t)limits->lifetime_ms,
			(uint64_t)plan->session_s * 1000);
		limits->client_messages_per_s =
		    narrow(limits->client_messages_per_s,
			plan->client_messages_per_s);
		limits->client_bytes_per_s = narrow(limits->client_bytes_per_s,
		    plan->client_bytes_per_s);
	}
}
