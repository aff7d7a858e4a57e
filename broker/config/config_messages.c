/* SPDX-License-Identifier: MIT */
#include "broker/config/config_messages.h"

#include <string.h>

#include "broker/config/config_session.h"
#include "broker/config/config_value.h"
#include "common/json.h"
#include "common/xalloc.h"

#define INSPECT_BYTES_DEFAULT (256 * 1024)
#define LOG_BYTES_DEFAULT     (64 * 1024 * 1024)
#define LOG_KEEP_DEFAULT      4
#define TICKET_DEFAULT_S      600

/* What a relay is that nobody has said anything of. */
static const struct config_relay nothing = {
	.messages = { .inspect_bytes = INSPECT_BYTES_DEFAULT },
	.message_log = { .max_bytes = LOG_BYTES_DEFAULT,
	    .keep = LOG_KEEP_DEFAULT },
	.ticket_s = TICKET_DEFAULT_S,
	.ticket_max_s = CONFIG_TICKET_MAX_S,
	.ticket_once = true,
};

/* A key of two words; *ret is whether it is the second. */
static enum err
get_choice(struct conf_section *section, const char *key, const char *first,
    const char *second, bool fallback, bool *ret, struct diag *diag)
{
	const char *text = conf_string(section, key, 0);

	*ret = text == NULL ? fallback : strcmp(text, second) == 0;
	if (text != NULL && !*ret && strcmp(text, first) != 0)
		return conf_fail(section, key, diag,
		    "%.40s: write \"%s\" or \"%s\"", text, first, second);
	return ERR_OK;
}

static enum err
build_form(struct conf_section *section, const struct config_messages *base,
    struct config_messages *messages, struct diag *diag)
{
	enum err err = get_choice(section, "dialect", "ga", "beta", base->beta,
	    &messages->beta, diag);

	if (err == ERR_OK)
		err = get_choice(section, "messages", "events", "text",
		    base->text, &messages->text, diag);
	if (err != ERR_OK || !messages->beta || !messages->text)
		return err;
	/* one of them is inherited: what the section says counts */
	if (!conf_given(section, "dialect")) {
		messages->beta = false;
	} else if (!conf_given(section, "messages")) {
		messages->text = false;
	} else {
		return conf_fail(section, "dialect", diag,
		    "beta is for clients that send events: leave it out, or "
		    "messages = \"text\"");
	}
	return ERR_OK;
}

static char *
copy(const char *text)
{
	return text == NULL ? NULL : xstrdup(text);
}

static enum err
build_session(struct conf_section *section, const struct config_messages *base,
    struct config_messages *messages, struct diag *diag)
{
	struct conf_section *session = conf_section(section, "session", 0);

	if (session != NULL || (base->session == NULL && messages->text))
		return config_session_build(session, messages, diag);
	if (base->session == NULL)
		return ERR_OK;
	messages->session = json_made(json_deep_copy(base->session));
	messages->model = copy(base->model);
	messages->instructions_file = copy(base->instructions_file);
	messages->tools_file = copy(base->tools_file);
	messages->pinned = base->pinned;
	if (messages->text)
		config_session_answer_text(messages);
	else
		value_copy_list(&base->client_may, &messages->client_may);
	return ERR_OK;
}

static enum err
build_log(struct conf_section *section, const struct config_message_log *base,
    struct config_message_log *log, struct diag *diag)
{
	const char *mode = conf_string(section, "message_log", 0);
	uint64_t keep = base->keep;
	enum err err = value_get_number(section, "message_log_bytes", 4096,
	    1 << 30, base->max_bytes, &log->max_bytes, diag);

	if (err == ERR_OK)
		err = value_get_number(section, "message_log_keep", 0, 1000,
		    base->keep, &keep, diag);
	log->keep = (unsigned)keep;
	if (mode == NULL)
		mode = base->mode == NULL ? "none" : base->mode;
	if (err != ERR_OK || strcmp(mode, "none") == 0)
		return err;
	if (strcmp(mode, "metadata") != 0 && strcmp(mode, "full") != 0)
		return conf_fail(section, "message_log", diag,
		    "%.40s: write \"none\", \"metadata\" or \"full\"", mode);
	log->mode = xstrdup(mode);
	err = value_get_text(section, "message_log_file", value_check_file,
	    base->file, &log->file, diag);
	if (err == ERR_OK && log->file == NULL)
		err = conf_fail(section, "message_log", diag,
		    "needs message_log_file = \"/path\"");
	return err;
}

static enum err
build_tickets(struct conf_section *section, const struct config_relay *base,
    struct config_relay *relay, struct diag *diag)
{
	uint64_t seconds = 0, most = 0;
	enum err err =
	    value_get_number(section, "ticket_seconds_max", CONFIG_TICKET_MIN_S,
		CONFIG_TICKET_MAX_S, (uint64_t)base->ticket_max_s, &most, diag);

	if (err == ERR_OK)
		err = value_get_number(section, "ticket_seconds",
		    CONFIG_TICKET_MIN_S, most,
		    (uint64_t)base->ticket_s < most ? (uint64_t)base->ticket_s
						    : most,
		    &seconds, diag);
	relay->ticket_s = (int64_t)seconds;
	relay->ticket_max_s = (int64_t)most;
	if (err == ERR_OK)
		err = value_get_bool(section, "client_secrets",
		    base->client_secrets, &relay->client_secrets, diag);
	if (err == ERR_OK)
		err = value_get_bool(section, "require_ticket",
		    base->require_ticket, &relay->require_ticket, diag);
	if (err == ERR_OK)
		err = value_get_bool(section, "ticket_once", base->ticket_once,
		    &relay->ticket_once, diag);
	if (err == ERR_OK)
		err = value_get_bool(section, "require_user",
		    base->require_user, &relay->require_user, diag);
	/* OpenAI's own keys are not spent: that has to be asked for */
	relay->secret_once = conf_given(section, "ticket_once")
	    ? relay->ticket_once
	    : base->secret_once;
	/* no pin holds in a call: that has to be said of each section */
	if (err == ERR_OK)
		err = value_get_bool(section, "calls",
		    base->calls && !relay->messages.pinned, &relay->calls,
		    diag);
	return err;
}

/* What becomes of a response that no budget has room for. */
static enum err
build_over_budget(struct conf_section *section, const struct config_relay *base,
    struct config_relay *relay, struct diag *diag)
{
	bool by_error = base->over_budget != NULL &&
	    strcmp(base->over_budget, "error") == 0;
	enum err err = get_choice(section, "over_budget", "close", "error",
	    by_error, &by_error, diag);

	if (err == ERR_OK)
		relay->over_budget = xstrdup(by_error ? "error" : "close");
	return err;
}

enum err
config_messages_build(struct conf_section *section,
    const struct config_relay *base, bool usage, struct config_relay *relay,
    struct diag *diag)
{
	struct config_messages *messages = &relay->messages;
	enum err err;

	if (base != NULL)
		usage = base->messages.usage;
	else
		base = &nothing;
	err = build_form(section, &base->messages, messages, diag);
	if (err == ERR_OK)
		err = build_session(section, &base->messages, messages, diag);
	if (err == ERR_OK)
		err = value_get_bool(section, "usage", usage, &messages->usage,
		    diag);
	if (err == ERR_OK)
		err = value_get_number(section, "inspect_bytes", 4096, 1 << 24,
		    base->messages.inspect_bytes, &messages->inspect_bytes,
		    diag);
	if (err == ERR_OK)
		err = build_log(section, &base->message_log,
		    &relay->message_log, diag);
	if (err == ERR_OK)
		err = build_tickets(section, base, relay, diag);
	if (err == ERR_OK)
		err = build_over_budget(section, base, relay, diag);
	return err;
}

/* ---- the way back ---- */

void
config_messages_dump(const struct config_relay *relay, FILE *out)
{
	const struct config_messages *messages = &relay->messages;
	const struct config_message_log *log = &relay->message_log;

	value_put_text(out, 1, "dialect", messages->beta ? "beta" : "ga");
	value_put_text(out, 1, "messages", messages->text ? "text" : "events");
	if (messages->session != NULL)
		config_session_dump(messages, out);
	value_put_bool(out, 1, "usage", messages->usage);
	value_put_number(out, 1, "inspect_bytes", messages->inspect_bytes);
	value_put_text(out, 1, "message_log",
	    log->mode == NULL ? "none" : log->mode);
	if (log->mode != NULL)
		value_put_text(out, 1, "message_log_file", log->file);
	value_put_number(out, 1, "message_log_bytes", log->max_bytes);
	value_put_number(out, 1, "message_log_keep", log->keep);
	value_put_bool(out, 1, "require_ticket", relay->require_ticket);
	value_put_bool(out, 1, "require_user", relay->require_user);
	value_put_bool(out, 1, "client_secrets", relay->client_secrets);
	/* where it was not said, it must not be said */
	if (relay->secret_once || !relay->ticket_once)
		value_put_bool(out, 1, "ticket_once", relay->ticket_once);
	value_put_number(out, 1, "ticket_seconds", (uint64_t)relay->ticket_s);
	value_put_number(out, 1, "ticket_seconds_max",
	    (uint64_t)relay->ticket_max_s);
	value_put_bool(out, 1, "calls", relay->calls);
	value_put_text(out, 1, "over_budget", relay->over_budget);
}
