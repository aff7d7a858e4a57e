/* SPDX-License-Identifier: MIT */
/* culvert-sim: the vendors, simulated.  tests/sim/README.md tells more. */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "front.h"
#include "http.h"
#include "journal.h"
#include "options.h"
#include "ws.h"

static struct ws *stop_ws; /* for the signal handler alone */

static void
on_signal(int number)
{
	(void)number;
	ws_stop(stop_ws);
}

static void
set_signals(struct ws *ws)
{
	struct sigaction sa = { .sa_handler = on_signal };

	stop_ws = ws;
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void
raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void
say_ready(const struct front *front)
{
	int ws = front_port(front, PORT_WS), raw = front_port(front, PORT_RAW);
	int http = front_port(front, PORT_HTTP);
	int wss = front_port(front, PORT_WSS);
	int https = front_port(front, PORT_HTTPS);

	raw = raw == 0 ? ws : raw;
	printf("{\"ws\":%d,\"http\":%d,\"raw\":%d,\"wss\":%d,\"https\":%d,"
	       "\"ws_port\":%d,\"http_port\":%d,\"raw_port\":%d,"
	       "\"wss_port\":%d,\"https_port\":%d,\"pid\":%d}\n",
	    ws, http, raw, wss, https, ws, http, raw, wss, https,
	    (int)getpid());
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	pid_t parent = getppid();
	struct options *options = options_new(argc, argv);
	struct journal *journal = journal_new();
	struct ws *ws = NULL;
	struct http *http = NULL;
	struct front *front = NULL;
	struct routes routes = { .options = options, .journal = journal };
	struct diag diag = { "" };
	enum err err;

	if (options->die_with_parent) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		if (getppid() != parent)
			return 0;
	}
	raise_descriptors();
	routes.script = script_new();
	routes.anam = anam_api_new(options->anam_key, routes.script);
	err = ws_new(options, &ws, &diag);
	if (err == ERR_OK) {
		set_signals(ws);
		err = http_new(&routes, &http, &diag);
	}
	if (err == ERR_OK)
		err = front_new(&routes, ws, http, &front, &diag);
	if (err == ERR_OK) {
		say_ready(front);
		ws_run(ws);
	} else {
		fprintf(stderr, "culvert-sim: %s\n", diag.text);
	}
	front_free(front);
	http_free(http);
	ws_free(ws);
	anam_api_free(routes.anam);
	script_free(routes.script);
	journal_free(journal);
	options_free(options);
	return err == ERR_OK ? 0 : 1;
}
