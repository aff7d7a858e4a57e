/* SPDX-License-Identifier: MIT */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "common/clock.h"
#include "common/json.h"
#include "common/str.h"
#include "common/wire.h"
#include "common/wire_text.h"
#include "common/ws_frame.h"
#include "common/xalloc.h"
#include "ctl/client.h"
#include "ctl/doctor.h"
#include "ctl/show.h"

#define DEFAULT_SOCKET RUNSTATEDIR "/culvert/control.sock"
#define CLOSE_REASON   "ended by the operator"
#define EXIT_FAILED    1
#define EXIT_USAGE     2
#define DAY_BYTES      11 /* "2026-01-31" and its end */

struct options {
	const char *socket;
	bool json;
	const char *from, *to, *by; /* usage */
	const char *code, *reason;  /* close */
	const char *id, *back;	    /* topup; back: an amount below 0 */
	const char *before;	    /* revoke */
	const char *kind, *whose;   /* budgets; "": more than one */
	const char *connect;	    /* doctor */
	bool insecure;
	bool help;
	char **args;
	int arg_count;
};

struct command {
	const char *name;
	int (*run)(const struct options *options);
	const char *synopsis, *description;
};

static int run_sessions(const struct options *options);
static int run_close(const struct options *options);
static int run_usage(const struct options *options);
static int run_topup(const struct options *options);
static int run_balance(const struct options *options);
static int run_budgets(const struct options *options);
static int run_revoke(const struct options *options);
static int run_revocations(const struct options *options);
static int run_doctor(const struct options *options);

static const struct command commands[] = {
	{ "sessions", run_sessions, "", "the tunnels that are open" },
	{ "close", run_close, "LEASE [--code N] [--reason TEXT]",
	    "end one of them" },
	{ "usage", run_usage, "[--from DAY] [--to DAY] [--by WHAT]",
	    "what was used, by day, route, user, model or all of them" },
	{ "topup", run_topup, "USER AMOUNT [--id KEY]",
	    "add to a user's balance; below 0: take back" },
	{ "balance", run_balance, "USER", "what a user has" },
	{ "budgets", run_budgets,
	    "[--user NAME | --visitor ID | --address A | --route NAME]",
	    "what was used of today's tokens, money and seconds, and how much "
	    "there is" },
	{ "revoke", run_revoke, "KIND VALUE [--before TIME]",
	    "what was issued for a user, session, ticket or route is not "
	    "good" },
	{ "revocations", run_revocations, "", "what is revoked" },
	{ "doctor", run_doctor, "URL [--connect ADDRESS] [--insecure]",
	    "what is wrong between browsers and the broker, through the web "
	    "server" },
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

/* ---- what goes wrong --------------------------------------------------- */

/* Of one command, or of all. */
static void
usage(const struct command *command, FILE *out)
{
	(void)fputs("usage: culvertctl [--socket PATH] [--json] COMMAND\n",
	    out);
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		if (command == NULL || command == &commands[i])
			(void)fprintf(out, "  %s %s\n      %s\n",
			    commands[i].name, commands[i].synopsis,
			    commands[i].description);
	(void)fputs("  --socket PATH  the broker's control socket, not "
		    "$CULVERT_CONTROL or\n"
		    "                 " DEFAULT_SOCKET "\n"
		    "  --json         print the answer as JSON\n"
		    "  --help         print this and exit\n"
		    "  --version      print the version and exit\n",
	    out);
}

/* One line, in which the mistake is not lost. */
static int
misused(const char *text)
{
	(void)fprintf(stderr, "culvertctl: %s; see culvertctl --help\n", text);
	return EXIT_USAGE;
}

/* Print an answer: as it is, or by show(), which may be NULL. */
static void
print(const struct options *options, const json_t *answer,
    void (*show)(const json_t *answer, FILE *out))
{
	size_t len;
	char *text;

	if (options->json) {
		text = json_text(answer, &len);
		(void)printf("%s\n", text);
		free(text);
	} else if (show != NULL) {
		show(answer, stdout);
	}
}

static enum err
ask_broker(const struct options *options, struct wire_packet *question,
    void (*show)(const json_t *answer, FILE *out), json_t **ret)
{
	struct diag diag;
	json_t *answer;
	enum err err = client_ask(options->socket, question, &answer, &diag);

	wire_packet_free(question);
	if (err != ERR_OK) {
		(void)fprintf(stderr, "culvertctl: %s\n", diag.text);
		return err;
	}
	print(options, answer, show);
	if (ret != NULL)
		*ret = answer;
	else
		json_decref(answer);
	return ERR_OK;
}

static int
ask(const struct options *options, struct wire_packet *question,
    void (*show)(const json_t *answer, FILE *out), json_t **ret)
{
	return ask_broker(options, question, show, ret) == ERR_OK ? 0
								  : EXIT_FAILED;
}

/* ---- commands ---------------------------------------------------------- */

static int
run_sessions(const struct options *options)
{
	if (options->arg_count > 0)
		return misused("sessions has no arguments");
	return ask(options, wire_packet_new(WIRE_LIST), show_sessions, NULL);
}

static int
run_close(const struct options *options)
{
	struct wire_packet *order;
	uint64_t code = WS_CODE_OPERATOR;
	json_t *answer;
	bool closed;
	int rc;

	if (options->arg_count != 1)
		return misused("close takes a LEASE, as `sessions' has it");
	if (options->code != NULL &&
	    (str_to_u64(options->code, strlen(options->code), 4999, &code) !=
		    ERR_OK ||
		!wire_is_close_code((int)code)))
		return misused("--code: 1000 to 1003, 1007 to 1014 or 3000 to "
			       "4999");
	if (options->reason != NULL && strlen(options->reason) > 123)
		return misused("--reason: at most 123 bytes");
	order = wire_packet_new(WIRE_CLOSE);
	order->close.code = (int)code;
	order->close.reason =
	    xstrdup(options->reason == NULL ? CLOSE_REASON : options->reason);
	order->close.lease = xstrdup(options->args[0]);
	rc = ask(options, order, NULL, &answer);
	if (rc != 0)
		return rc;
	closed = json_is_true(json_object_get(answer, "closed"));
	json_decref(answer);
	if (closed)
		return 0;
	(void)fprintf(stderr, "culvertctl: there is no such lease\n");
	return EXIT_FAILED;
}

static const char *
today(char out[DAY_BYTES])
{
	time_t now = (time_t)clock_unix();
	struct tm tm;

	(void)gmtime_r(&now, &tm);
	(void)strftime(out, DAY_BYTES, "%Y-%m-%d", &tm);
	return out;
}

static const char *
first_of_month(const char *day, char out[DAY_BYTES])
{
	(void)snprintf(out, DAY_BYTES, "%.8s01", day);
	return out;
}

static int
run_usage(const struct options *options)
{
	char day[DAY_BYTES], first[DAY_BYTES];
	const char *from = options->from, *to = options->to, *by = options->by;
	struct wire_packet *question;

	if (options->arg_count > 0)
		return misused("usage has no arguments");
	if ((from != NULL && !wire_is_day(from, strlen(from))) ||
	    (to != NULL && !wire_is_day(to, strlen(to))))
		return misused("a day is written as 2026-01-31");
	if (by == NULL)
		by = "day";
	if (strcmp(by, "all") != 0 && !wire_is_sum(by, strlen(by)))
		return misused("--by: day, route, user, model or all");
	if (to == NULL)
		to = today(day);
	if (from == NULL)
		from = first_of_month(to, first);
	if (strcmp(from, to) > 0)
		return misused("--from is after --to");
	question = wire_packet_new(WIRE_REPORT);
	question->report.from = xstrdup(from);
	question->report.to = xstrdup(to);
	if (strcmp(by, "all") != 0)
		question->report.by = xstrdup(by);
	return ask(options, question, show_usage, NULL);
}

/* What a top-up is booked once by, however often it is sent. */
static char *
make_id(void)
{
	unsigned char bytes[16];
	char *id = xcalloc(1, 2 * sizeof(bytes) + 1);

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		abort(); /* never for so few */
	for (size_t i = 0; i < sizeof(bytes); i++)
		(void)sprintf(id + 2 * i, "%02x", bytes[i]);
	return id;
}

static int
run_topup(const struct options *options)
{
	const char *amount = options->back, *fault = NULL;
	struct wire_packet *order;
	enum err err;
	char *id;

	if (amount == NULL && options->arg_count == 2)
		amount = options->args[1];
	else if (amount == NULL || options->arg_count != 1)
		fault = "topup takes a USER and an AMOUNT";
	if (fault == NULL && !wire_is_amount(amount, strlen(amount)))
		fault = "AMOUNT: a decimal number as 5.00, or -5.00";
	if (fault == NULL && options->id != NULL &&
	    !str_is_token(options->id, strlen(options->id)))
		fault = "--id: letters, digits, `-', `_', `.'";
	if (fault != NULL)
		return misused(fault);
	id = options->id == NULL ? make_id() : xstrdup(options->id);
	order = wire_packet_new(WIRE_TOP_UP);
	order->account.user = xstrdup(options->args[0]);
	order->account.amount = xstrdup(amount);
	order->account.id = xstrdup(id);
	err = ask_broker(options, order, show_account, NULL);
	if (err != ERR_OK && err != ERR_MISMATCH && options->id == NULL)
		(void)fprintf(stderr,
		    "culvertctl: whether it was booked or not, this books it "
		    "once: --id %s\n",
		    id);
	free(id);
	return err == ERR_OK ? 0 : EXIT_FAILED;
}

static int
run_balance(const struct options *options)
{
	struct wire_packet *question;

	if (options->arg_count != 1)
		return misused("balance takes a USER");
	question = wire_packet_new(WIRE_BALANCE);
	question->account.user = xstrdup(options->args[0]);
	return ask(options, question, show_account, NULL);
}

/* "2026-01-31T12:00:00Z", or seconds since 1970; false for another text. */
static bool
parse_time(const char *text, int64_t *ret)
{
	struct tm tm = { .tm_mday = 0 };
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm);
	uint64_t seconds;

	if (end != NULL && *end == '\0') {
		*ret = (int64_t)timegm(&tm);
		return *ret > 0;
	}
	if (str_to_u64(text, strlen(text), INT64_MAX, &seconds) != ERR_OK)
		return false;
	*ret = (int64_t)seconds;
	return seconds > 0;
}

static int
run_budgets(const struct options *options)
{
	struct wire_packet *question;

	if (options->arg_count > 0)
		return misused("budgets has no arguments, but --user, "
			       "--visitor, --address or --route");
	if (options->kind != NULL &&
	    (*options->kind == '\0' ||
		!wire_is_line(options->whose, strlen(options->whose))))
		return misused("budgets takes one of --user, --visitor, "
			       "--address and --route");
	question = wire_packet_new(WIRE_BUDGETS);
	if (options->kind != NULL) {
		question->budgets.kind = xstrdup(options->kind);
		question->budgets.value = xstrdup(options->whose);
	}
	return ask(options, question, show_budgets, NULL);
}

static int
run_revoke(const struct options *options)
{
	struct wire_packet *order;
	int64_t before = 0;

	if (options->arg_count != 2 ||
	    !wire_is_revocable(options->args[0], strlen(options->args[0])) ||
	    !wire_is_line(options->args[1], strlen(options->args[1])))
		return misused("revoke takes user, session, ticket or route, "
			       "and which one");
	if (options->before != NULL && !parse_time(options->before, &before))
		return misused("--before: a time as 2026-01-31T12:00:00Z, or "
			       "seconds since 1970");
	order = wire_packet_new(WIRE_REVOKE);
	order->revoke.kind = xstrdup(options->args[0]);
	order->revoke.value = xstrdup(options->args[1]);
	order->revoke.before = before;
	return ask(options, order, show_revoked, NULL);
}

static int
run_revocations(const struct options *options)
{
	if (options->arg_count > 0)
		return misused("revocations has no arguments");
	return ask(options, wire_packet_new(WIRE_REVOKE), show_revocations,
	    NULL);
}

static int
run_doctor(const struct options *options)
{
	struct web_site site = {
		.connect = options->connect,
		.insecure = options->insecure,
	};
	struct wire_packet *question = wire_packet_new(WIRE_PROBE);
	json_t *probe, *report;
	struct diag diag;
	char *origin =
	    options->arg_count == 1 ? doctor_origin(*options->args) : NULL;
	bool usable = origin != NULL &&
	    (site.connect == NULL || str_is_address(site.connect));
	bool ok = false;

	if (usable &&
	    client_ask(options->socket, question, &probe, &diag) == ERR_OK) {
		site.origin = origin;
		report = doctor_examine(&site, probe);
		print(options, report, doctor_show);
		ok = json_is_true(json_object_get(report, "ok"));
		json_decref(report);
		json_decref(probe);
	} else if (usable) {
		(void)fprintf(stderr, "culvertctl: %s\n", diag.text);
	}
	wire_packet_free(question);
	free(origin);
	if (!usable)
		return misused("doctor takes a URL as https://example.org, "
			       "without a path, and perhaps a numeric address "
			       "to --connect to");
	return ok ? 0 : EXIT_FAILED;
}

/* ---- options ----------------------------------------------------------- */

enum {
	SOCKET = 256,
	JSON,
	FROM,
	TO,
	BY,
	CODE,
	REASON,
	ID,
	BEFORE,
	USER,
	VISITOR,
	ADDRESS,
	ROUTE,
	CONNECT,
	INSECURE,
	HELP,
	VERSION_OPTION,
};

static const struct option known[] = {
	{ "socket", required_argument, NULL, SOCKET },
	{ "json", no_argument, NULL, JSON },
	{ "from", required_argument, NULL, FROM },
	{ "to", required_argument, NULL, TO },
	{ "by", required_argument, NULL, BY },
	{ "code", required_argument, NULL, CODE },
	{ "reason", required_argument, NULL, REASON },
	{ "id", required_argument, NULL, ID },
	{ "before", required_argument, NULL, BEFORE },
	{ "user", required_argument, NULL, USER },
	{ "visitor", required_argument, NULL, VISITOR },
	{ "address", required_argument, NULL, ADDRESS },
	{ "route", required_argument, NULL, ROUTE },
	{ "connect", required_argument, NULL, CONNECT },
	{ "insecure", no_argument, NULL, INSECURE },
	{ "help", no_argument, NULL, HELP },
	{ "version", no_argument, NULL, VERSION_OPTION },
	{ NULL, 0, NULL, 0 },
};

/* So that an amount below 0 is no strange option. */
static const char digits[] = "0::1::2::3::4::5::6::7::8::9::";

/* Whose budgets; only one may be asked for. */
static void
choose(struct options *options, int option, const char *value)
{
	static const char *const kinds[] = {
		[USER - USER] = "user",
		[VISITOR - USER] = "visitor",
		[ADDRESS - USER] = "address",
		[ROUTE - USER] = "route",
	};

	options->kind = options->kind == NULL ? kinds[option - USER] : "";
	options->whose = value;
}

static void
parse_options(int argc, char *argv[], struct options *options)
{
	int c;

	while ((c = getopt_long(argc, argv, digits, known, NULL)) != -1) {
		switch (c) {
		case SOCKET:
			options->socket = optarg;
			break;
		case JSON:
			options->json = true;
			break;
		case FROM:
			options->from = optarg;
			break;
		case TO:
			options->to = optarg;
			break;
		case BEFORE:
			options->before = optarg;
			break;
		case USER:
		case VISITOR:
		case ADDRESS:
		case ROUTE:
			choose(options, c, optarg);
			break;
		case BY:
			options->by = optarg;
			break;
		case CODE:
			options->code = optarg;
			break;
		case REASON:
			options->reason = optarg;
			break;
		case CONNECT:
			options->connect = optarg;
			break;
		case INSECURE:
			options->insecure = true;
			break;
		case HELP:
			options->help = true;
			break;
		case VERSION_OPTION:
			(void)printf("culvertctl %s\n", PACKAGE_VERSION);
			exit(0);
		case ID:
			options->id = optarg;
			break;
		default:
			if (c >= '0' && c <= '9') {
				options->back = argv[optind - 1];
				break;
			}
			(void)fputs("see culvertctl --help\n", stderr);
			exit(EXIT_USAGE);
		}
	}
	options->args = argv + optind;
	options->arg_count = argc - optind;
}

/* An option of another command is a mistake, not a wish to be passed over. */
static bool
fits(const struct options *options, const struct command *command)
{
	bool is_close = command->run == run_close;
	bool is_usage = command->run == run_usage;
	bool is_topup = command->run == run_topup;
	bool is_doctor = command->run == run_doctor;

	return (options->kind == NULL || command->run == run_budgets) &&
	    (options->before == NULL || command->run == run_revoke) &&
	    (is_doctor || (options->connect == NULL && !options->insecure)) &&
	    (is_close || (options->code == NULL && options->reason == NULL)) &&
	    (is_topup || (options->id == NULL && options->back == NULL)) &&
	    (is_usage ||
		(options->from == NULL && options->to == NULL &&
		    options->by == NULL));
}

static const struct command *
find_command(const char *name)
{
	for (size_t i = 0; name != NULL && i < COMMAND_COUNT; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

int
main(int argc, char *argv[])
{
	struct options options = { .socket = getenv("CULVERT_CONTROL") };
	const struct command *command;
	int rc = 0;

	if (options.socket == NULL)
		options.socket = DEFAULT_SOCKET;
	parse_options(argc, argv, &options);
	command = find_command(options.arg_count == 0 ? NULL : *options.args);
	if (command == NULL && options.arg_count > 0)
		return misused("there is no such command");
	if (options.help) {
		usage(command, stdout);
	} else if (command == NULL) {
		return misused("a command is missing");
	} else {
		options.args++;
		options.arg_count--;
		if (!fits(&options, command))
			return misused("this option is another command's");
		rc = command->run(&options);
	}
	if (fflush(stdout) != 0 || ferror(stdout)) {
		perror("culvertctl: standard output");
		return EXIT_FAILED;
	}
	return rc;
}
