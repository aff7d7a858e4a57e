/* SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"
#include "common/service.h"
#include "common/str.h"
#include "tunnel/supervisor.h"
#include "tunnel/worker.h"

#define LISTEN_MODE   0660
#define EXIT_USAGE    2
#define PROCESSES_MAX 1000000
#define SESSIONS_MAX  100000
#define DRAIN_MAX_S   86400

struct options {
	const char *listen_path, *control_path;
	uint64_t spare, connections, max_processes, drain_s;
	enum log_level level;
};

static const char usage_text[] =
    "usage: culvert-tunnel [options]\n"
    "Relays WebSocket connections to vendors, as the broker decides.\n"
    "\n"
    "  --listen PATH                listen on this Unix socket\n"
    "  --control PATH               the broker's control socket\n"
    "                               [" RUNSTATEDIR "/culvert/control.sock]\n"
    "  --spare N                    processes that wait for a connection [4]\n"
    "  --connections-per-process N  that one process serves in its life [1]\n"
    "  --max-processes N            at the same time [4096]\n"
    "  --drain-timeout SECONDS      to spread the end over on SIGTERM [30]\n"
    "  --log-level LEVEL            error, warning, notice, info, debug "
    "[info]\n"
    "  --help                       show this\n"
    "  --version                    show the version\n"
    "\n"
    "A listening socket that systemd passed, or that is descriptor 0, is used\n"
    "as well; a connected one is served once, as by inetd.\n";

enum option_id {
	OPT_LISTEN = 1,
	OPT_CONTROL,
	OPT_SPARE,
	OPT_CONNECTIONS,
	OPT_MAX_PROCESSES,
	OPT_DRAIN,
	OPT_LOG_LEVEL,
	OPT_HELP,
	OPT_VERSION,
};

static const struct option long_options[] = {
	{ "listen", required_argument, NULL, OPT_LISTEN },
	{ "control", required_argument, NULL, OPT_CONTROL },
	{ "spare", required_argument, NULL, OPT_SPARE },
	{ "connections-per-process", required_argument, NULL, OPT_CONNECTIONS },
	{ "max-processes", required_argument, NULL, OPT_MAX_PROCESSES },
	{ "drain-timeout", required_argument, NULL, OPT_DRAIN },
	{ "log-level", required_argument, NULL, OPT_LOG_LEVEL },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 },
};

static _Noreturn void
usage_error(const char *what)
{
	(void)fprintf(stderr,
	    "culvert-tunnel: %s\n"
	    "Try 'culvert-tunnel --help'.\n",
	    what);
	exit(EXIT_USAGE);
}

static uint64_t
number(uint64_t min, uint64_t max)
{
	uint64_t value;

	if (str_to_u64(optarg, strlen(optarg), max, &value) != ERR_OK ||
	    value < min)
		usage_error("a number is not valid or out of range");
	return value;
}

static void
take_option(struct options *options, enum option_id id)
{
	switch (id) {
	case OPT_LISTEN:
		options->listen_path = optarg;
		break;
	case OPT_CONTROL:
		options->control_path = optarg;
		break;
	case OPT_SPARE:
		options->spare = number(1, PROCESSES_MAX);
		break;
	case OPT_CONNECTIONS:
		options->connections = number(1, SESSIONS_MAX);
		break;
	case OPT_MAX_PROCESSES:
		options->max_processes = number(1, PROCESSES_MAX);
		break;
	case OPT_DRAIN:
		options->drain_s = number(0, DRAIN_MAX_S);
		break;
	case OPT_LOG_LEVEL:
		if (log_level_parse(optarg, &options->level) != ERR_OK)
			usage_error("no such log level");
		break;
	case OPT_HELP:
		(void)fputs(usage_text, stdout);
		exit(EXIT_SUCCESS);
	case OPT_VERSION:
		(void)puts("culvert-tunnel " PACKAGE_VERSION);
		exit(EXIT_SUCCESS);
	default:
		usage_error("unknown option");
	}
}

static void
parse_options(int argc, char **argv, struct options *options)
{
	int id;

	*options = (struct options){
		.control_path = RUNSTATEDIR "/culvert/control.sock",
		.spare = 4,
		.connections = 1,
		.max_processes = 4096,
		.drain_s = 30,
		.level = LOG_LEVEL_INFO,
	};
	opterr = 0;
	while ((id = getopt_long(argc, argv, "", long_options, NULL)) != -1)
		take_option(options, (enum option_id)id);
	if (optind < argc)
		usage_error("there are no arguments but options");
}

static bool
socket_has(int fd, int option)
{
	socklen_t len = sizeof(int);
	int value = 0;

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 &&
	    value != 0;
}

static bool
is_connected(int fd)
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);

	return getpeername(fd, (void *)&addr, &len) == 0;
}

static bool
is_same_file(int a, int b)
{
	struct stat sa, sb;

	return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 &&
	    sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/*
 * inetd gives the connection as 0, 1 and 2: leave one descriptor of it, so
 * that closing that ends the connection and the log does not go into it.
 */
static int
take_stdin(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	if (null == -1 || fd == -1)
		return -1;
	for (int i = STDERR_FILENO; i >= STDIN_FILENO; i--)
		if (is_same_file(i, fd))
			(void)dup2(null, i);
	(void)close(null);
	return fd;
}

/* The socket to serve on, or -1. */
static int
find_socket(const struct options *options, struct diag *diag)
{
	int fd = service_passed_socket(SOCK_STREAM);

	if (fd != -1)
		return fd;
	if (options->listen_path != NULL) {
		if (service_listen_unix(options->listen_path, SOCK_STREAM,
			LISTEN_MODE, &fd, diag) != ERR_OK)
			return -1;
		return fd;
	}
	if (socket_has(STDIN_FILENO, SO_ACCEPTCONN) ||
	    is_connected(STDIN_FILENO))
		return take_stdin();
	diag_set(diag,
	    "no socket: not passed by systemd, no --listen, and "
	    "descriptor 0 is none");
	return -1;
}

/*
 * Block what is taken from a descriptor; before there is a socket, since who
 * sees that may stop us.
 */
static void
block_signals(void)
{
	sigset_t set;

	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGUSR1);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
}

static enum err
serve(const struct options *options, int fd, struct diag *diag)
{
	bool listening = socket_has(fd, SO_ACCEPTCONN);
	const struct supervisor_config config = {
		.listener = fd,
		.listen_path = service_passed_socket(SOCK_STREAM) == -1
		    ? options->listen_path
		    : NULL,
		.spare = (unsigned)options->spare,
		.max_processes = (unsigned)options->max_processes,
		.drain_ms = (int64_t)options->drain_s * 1000,
	};
	struct worker *worker;
	enum err err;

	err = worker_new(options->control_path,
	    listening ? (unsigned)options->connections : 1, &worker, diag);
	if (err != ERR_OK)
		return err;
	if (listening) {
		err = supervisor_run(&config, worker, diag);
	} else {
		err = worker_serve(worker, fd);
		if (err != ERR_OK)
			diag_set(diag, "cannot serve");
	}
	worker_free(worker);
	return err;
}

int
main(int argc, char **argv)
{
	struct options options;
	struct diag diag;
	int fd;

	parse_options(argc, argv, &options);
	log_init("culvert-tunnel", options.level);
	(void)signal(SIGPIPE, SIG_IGN);
	service_harden();
	block_signals();
	fd = find_socket(&options, &diag);
	if (fd == -1) {
		(void)fprintf(stderr, "culvert-tunnel: %s\n", diag.text);
		return EXIT_USAGE;
	}
	if (serve(&options, fd, &diag) != ERR_OK) {
		log_error("tunnel.failed", "reason=\"%s\"", diag.text);
		return EXIT_FAILURE;
	}
	return EXIT_SUCCESS;
}
