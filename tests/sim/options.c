/* SPDX-License-Identifier: MIT */
#include "options.h"

#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/crypt.h"
#include "common/str.h"
#include "common/xalloc.h"
#include "openai.h"
#include "raw.h"

static const char help[] =
    "Usage: culvert-sim [OPTION]...\n"
    "The vendors, simulated, for tests and for trying culvert without keys.\n"
    "\n"
    "  --ws-port N        WebSocket port (0, the default: a free one)\n"
    "  --http-port N      HTTP port\n"
    "  --raw-port N       one more port\n"
    "  --listen-ws A:P    --bind A --ws-port P\n"
    "  --bind ADDRESS     numeric, default 127.0.0.1\n"
    "  --tls-cert FILE --tls-key FILE\n"
    "                     listen with TLS too, on\n"
    "  --wss-port N, --https-port N\n"
    "  --models A,B,...   OpenAI models there are, * is a wildcard,\n"
    "                     default gpt-realtime and its successors\n"
    "  --chat-models A,B,...\n"
    "                     those of chat completions, default any\n"
    "  --subprotocols A,B,...\n"
    "                     subprotocols that are selected besides OpenAI's,\n"
    "                     default v1.example,v2.example\n"
    "  --pace MS          between two deltas of an answer, default 5\n"
    "  --session-seconds N\n"
    "                     so much ahead is expires_at of OpenAI's sessions,\n"
    "                     default 3600; they go on all the same\n"
    "  --charges FILE     append the id and tokens of each response there,\n"
    "                     before its response.done is sent\n"
    "  --die-with-parent  end when the starting process does\n"
    "  --help, --version\n"
    "\n"
    "Environment: SIM_OPENAI_KEY is the only key that OpenAI's side takes,\n"
    "SIM_ANAM_KEY the only one that Anam's takes (without it any);\n"
    "SIM_LIVEKIT_SECRET and SIM_LIVEKIT_KEY check LiveKit tokens.\n"
    "When ready, one JSON line on standard output names the ports.\n"
    "Every port serves everything:\n"
    "\n"
    "  /v1/realtime?model=|call_id=|intent=transcription   OpenAI Realtime\n"
    "  /echo                every message back; gather=1: in one frame each\n"
    "  GET /v1/models       OpenAI's list\n"
    "  POST /v1/chat/completions\n"
    "                       OpenAI's chat completions; a first line\n"
    "                       \"/sim WORD...\" of the last message has knobs:\n"
    "                       README.md has them all\n"
    "  POST /v1/realtime/client_secrets, /v1/realtime/calls\n"
    "                       OpenAI's short-lived keys, WebRTC calls\n"
    "  POST /v1/auth/session-token, /v1/engine/session, /v1/metrics/client,\n"
    "       {engineHost}/talk?session_id=\n"
    "                       Anam\n"
    "  {signallingEndpoint}?session_id=   an Anam engine's WebSocket\n"
    "  /sim/anam/engine     be the engine of the next session, or of\n"
    "                       session_id=\n"
    "  GET /sim/anam/sessions             Anam's sessions\n"
    "  POST /sim/anam, /sim/openai {\"mode\":WORD,...}\n"
    "                       what the next requests get; README.md has all\n"
    "  GET /sim/script      what of that is left\n"
    "  GET /rtc/validate    LiveKit's check of access_token=\n"
    "  GET /sim/journal     what came in, as JSON\n"
    "  GET /sim/chat        how many chat completions there were, and how\n"
    "                       they ended\n"
    "  POST /sim/reset      forget it\n"
    "\n"
    "Knobs, in the query of any WebSocket URL: sim=WORD[,WORD...]\n"
    "  refuse       status= (503), retry_after=; the body has SIM-MARKER\n"
    "  http401      OpenAI's 401 instead of the 101\n"
    "  delay        ms= (1000) before the 101\n"
    "  close        code= (1000) and reason=, after= messages (0)\n"
    "  drop         the end of TCP without a close, after= messages (0)\n"
    "  reset        RST, after= messages (0)\n"
    "  stall        stop reading, after= messages (0)\n"
    "  slow         read bytes_per_s= (65536)\n"
    "  silence      read, and never send a message\n"
    "  badjson      send a text that is no JSON first\n"
    "  huge         send one message of bytes= (16777216), kind=binary|text,\n"
    "               fragment= bytes a frame (0: one frame)\n"
    "  flood        send bytes= (104857600) in messages of message= (16384)\n"
    "\n"
    "Broken vendors, a WebSocket path each:\n";

static struct list
list_parse(const char *text)
{
	struct list list = { .count = 0 };

	while (*text != '\0') {
		size_t len = strcspn(text, ",");

		if (len > 0 && list.count < LIST_MAX)
			list.items[list.count++] = xstrndup(text, len);
		text += len + (text[len] == ',');
	}
	return list;
}

static void
list_done(struct list *list)
{
	while (list->count > 0)
		free(list->items[--list->count]);
}

static _Noreturn void
usage(const char *why, const char *what)
{
	fprintf(stderr, "culvert-sim: %s%s; see --help\n", why, what);
	exit(2);
}

static int
number(const char *text, uint64_t max)
{
	uint64_t value = 0;

	if (str_to_u64(text, strlen(text), max, &value) != ERR_OK)
		usage("not a number in range: ", text);
	return (int)value;
}

enum {
	OPT_WS_PORT = 256,
	OPT_HTTP_PORT,
	OPT_RAW_PORT,
	OPT_WSS_PORT,
	OPT_HTTPS_PORT,
	OPT_LISTEN_WS,
	OPT_BIND,
	OPT_CERT,
	OPT_KEY,
	OPT_MODELS,
	OPT_CHAT_MODELS,
	OPT_SUBPROTOCOLS,
	OPT_PACE,
	OPT_SESSION,
	OPT_CHARGES,
	OPT_DIE,
	OPT_HELP,
	OPT_VERSION,
};

static const struct option longopts[] = {
	{ "ws-port", required_argument, NULL, OPT_WS_PORT },
	{ "http-port", required_argument, NULL, OPT_HTTP_PORT },
	{ "raw-port", required_argument, NULL, OPT_RAW_PORT },
	{ "wss-port", required_argument, NULL, OPT_WSS_PORT },
	{ "https-port", required_argument, NULL, OPT_HTTPS_PORT },
	{ "listen-ws", required_argument, NULL, OPT_LISTEN_WS },
	{ "bind", required_argument, NULL, OPT_BIND },
	{ "tls-cert", required_argument, NULL, OPT_CERT },
	{ "tls-key", required_argument, NULL, OPT_KEY },
	{ "models", required_argument, NULL, OPT_MODELS },
	{ "chat-models", required_argument, NULL, OPT_CHAT_MODELS },
	{ "subprotocols", required_argument, NULL, OPT_SUBPROTOCOLS },
	{ "pace", required_argument, NULL, OPT_PACE },
	{ "session-seconds", required_argument, NULL, OPT_SESSION },
	{ "charges", required_argument, NULL, OPT_CHARGES },
	{ "die-with-parent", no_argument, NULL, OPT_DIE },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

static void
replace(char **where, const char *text, size_t len)
{
	free(*where);
	*where = xstrndup(text, len);
}

static void
listen_ws(struct options *o, const char *text)
{
	const char *colon = strrchr(text, ':');
	size_t len;

	if (colon == NULL)
		usage("not ADDRESS:PORT: ", text);
	len = (size_t)(colon - text);
	if (len > 2 && text[0] == '[' && text[len - 1] == ']')
		replace(&o->bind, text + 1, len - 2);
	else
		replace(&o->bind, text, len);
	o->ws_port = number(colon + 1, 65535);
}

static void
option_port(struct options *o, int opt, const char *text)
{
	int port = number(text, 65535);

	switch (opt) {
	case OPT_WS_PORT:
		o->ws_port = port;
		break;
	case OPT_HTTP_PORT:
		o->http_port = port;
		break;
	case OPT_RAW_PORT:
		o->raw_port = port;
		break;
	case OPT_WSS_PORT:
		o->wss_port = port;
		break;
	default:
		o->https_port = port;
	}
}

static void
option(struct options *o, int opt, const char *text)
{
	switch (opt) {
	case OPT_LISTEN_WS:
		listen_ws(o, text);
		break;
	case OPT_BIND:
		replace(&o->bind, text, strlen(text));
		break;
	case OPT_CERT:
		replace(&o->cert, text, strlen(text));
		break;
	case OPT_KEY:
		replace(&o->key, text, strlen(text));
		break;
	case OPT_MODELS:
		list_done(&o->models);
		o->models = list_parse(text);
		break;
	case OPT_CHAT_MODELS:
		list_done(&o->chat_models);
		o->chat_models = list_parse(text);
		break;
	case OPT_SUBPROTOCOLS:
		list_done(&o->subprotocols);
		o->subprotocols = list_parse(text);
		break;
	case OPT_PACE:
		o->pace_ms = number(text, 60000);
		break;
	case OPT_SESSION:
		o->session_s = number(text, 86400);
		break;
	case OPT_CHARGES:
		o->charges_fd =
		    open(text, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
		if (o->charges_fd < 0)
			usage("cannot write: ", text);
		break;
	case OPT_DIE:
		o->die_with_parent = true;
		break;
	case OPT_HELP:
		fputs(help, stdout);
		raw_list(stdout);
		exit(0);
	case OPT_VERSION:
		puts("culvert-sim " PACKAGE_VERSION);
		exit(0);
	default:
		usage("wrong option", "");
	}
}

/* A secret of the environment, which is cleared of it. */
static struct secret *
from_environment(const char *name)
{
	char *spec = xasprintf("env:%s", name);
	struct secret *secret = NULL;

	if (secret_load(spec, &secret, NULL) != ERR_OK)
		secret = NULL;
	unsetenv(name);
	free(spec);
	return secret;
}

struct options *
options_new(int argc, char **argv)
{
	struct options *o = xcalloc(1, sizeof(*o));
	int opt;

	o->bind = xstrdup("127.0.0.1");
	o->raw_port = -1;
	o->pace_ms = 5;
	o->session_s = OPENAI_SESSION_S;
	o->charges_fd = -1;
	o->models = list_parse("gpt-realtime,gpt-realtime-1.5,gpt-realtime-2,"
			       "gpt-realtime-2.1,gpt-realtime-2.1-mini,"
			       "gpt-realtime-mini,gpt-realtime-*");
	o->chat_models = list_parse("*");
	o->subprotocols = list_parse("v1.example,v2.example");
	while ((opt = getopt_long(argc, argv, "", longopts, NULL)) != -1) {
		if (opt >= OPT_WS_PORT && opt <= OPT_HTTPS_PORT)
			option_port(o, opt, optarg);
		else
			option(o, opt, optarg);
	}
	if (optind < argc)
		usage("too many arguments: ", argv[optind]);
	if ((o->cert == NULL) != (o->key == NULL))
		usage("--tls-cert and --tls-key need each other", "");
	if (o->cert == NULL)
		o->wss_port = o->https_port = -1;
	o->openai_key = from_environment("SIM_OPENAI_KEY");
	o->anam_key = from_environment("SIM_ANAM_KEY");
	o->livekit_secret = from_environment("SIM_LIVEKIT_SECRET");
	o->livekit_key = getenv("SIM_LIVEKIT_KEY");
	o->ephemeral = ephemeral_new();
	return o;
}

void
options_free(struct options *o)
{
	if (o == NULL)
		return;
	if (o->charges_fd >= 0)
		(void)close(o->charges_fd);
	free(o->bind);
	free(o->cert);
	free(o->key);
	list_done(&o->models);
	list_done(&o->chat_models);
	list_done(&o->subprotocols);
	secret_free(o->openai_key);
	secret_free(o->anam_key);
	secret_free(o->livekit_secret);
	ephemeral_free(o->ephemeral);
	free(o);
}

static bool
has_model(const struct list *models, const char *model)
{
	for (size_t i = 0; i < models->count; i++)
		if (str_match(models->items[i], model))
			return true;
	return false;
}

bool
options_has_model(const struct options *o, const char *model)
{
	return has_model(&o->models, model);
}

bool
options_has_chat_model(const struct options *o, const char *model)
{
	return has_model(&o->chat_models, model);
}

bool
options_is_main_key(const struct options *o, const char *key, size_t len)
{
	size_t right_len;
	const char *right;

	if (key == NULL || len == 0)
		return false;
	if (o->openai_key == NULL)
		return true;
	right = secret_peek(o->openai_key, &right_len);
	return right_len == len && crypt_equal(right, key, len);
}

bool
options_key_is_good(const struct options *o, const char *key, size_t len,
    int64_t now)
{
	return options_is_main_key(o, key, len) ||
	    (key != NULL && ephemeral_is_good(o->ephemeral, key, len, now));
}
