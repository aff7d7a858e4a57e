/* SPDX-License-Identifier: MIT */
/*
 * Several processes, each with its own connection to one store and its own
 * copy of the keys, use the same ticket at the same moment: one of them wins,
 * whichever, each time.  RACE_TICKETS says how many tickets; `make race' takes
 * 10,000.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "broker/signing_key.h"
#include "broker/store/store_sqlite.h"
#include "broker/tickets/ticket.h"
#include "common/clock.h"
#include "common/xalloc.h"

#define PROCESSES     4
#define TICKETS	      1000
#define TICKETS_MAX   STORE_TICKETS_MAX
#define LIFE_S	      7200
#define PATIENCE_S    1800 /* then who still runs is killed */
#define TICKET_BYTES  512
#define OTHER_OUTCOME 99

/* What is read is not written. */
#define TEXT(s) ((char *)(uintptr_t)(s))

/* Shared by all processes. */
struct arena {
	pthread_barrier_t start; /* of each round */
	struct round {
		char ticket[TICKET_BYTES];
		unsigned char outcomes[PROCESSES]; /* enum err */
	} rounds[];
};

static char dir[] = "/tmp/culvert-race.XXXXXX";

static char *
file(const char *name)
{
	return xasprintf("%s/%s", dir, name);
}

static int
make_folder(void **state)
{
	(void)state;
	return mkdtemp(dir) == NULL ? -1 : 0;
}

static int
remove_folder(void **state)
{
	DIR *d = opendir(dir);
	struct dirent *entry;

	(void)state;
	while (d != NULL && (entry = readdir(d)) != NULL) {
		char *name = file(entry->d_name);

		(void)unlink(name);
		free(name);
	}
	(void)closedir(d);
	return rmdir(dir);
}

/* As a broker starts. */
static void
open_all(void)
{
	char *store_path = file("culvert.db"), *key_path = file("ticket-key");
	struct store *store;
	struct diag diag = { "" };

	if (store_sqlite_open(store_path, &store, &diag) != ERR_OK ||
	    signing_key_init(NULL, key_path, 86400, &diag) != ERR_OK) {
		print_error("%s\n", diag.text);
		_exit(1);
	}
	store_set_current(store);
	free(store_path);
	free(key_path);
}

static void
close_all(void)
{
	struct store *store = store_current();

	store_set_current(NULL);
	store->ops->close(store);
	signing_key_done();
}

/*
 * As a request is decided; a store that is busy is asked again.  Where there
 * is a gate, nobody spends before all have found the ticket good.
 */
static enum err
use_ticket(const char *text, pthread_barrier_t *gate)
{
	const struct ticket_use use = { .route = "/ws", .now = clock_unix() };
	struct store_ticket ticket;
	enum err err;

	do
		err = ticket_check(text, strlen(text), &use, &ticket, NULL);
	while (err == ERR_UNAVAIL);
	if (gate != NULL)
		(void)pthread_barrier_wait(gate);
	if (err != ERR_OK)
		return gate == NULL ? err : ERR_SYS; /* it was good */
	do
		err = ticket_spend(&ticket, use.now, NULL);
	while (err == ERR_UNAVAIL);
	store_ticket_done(&ticket);
	return err;
}

static void
be_a_broker(struct arena *arena, size_t count, int number)
{
	(void)alarm(PATIENCE_S);
	open_all();
	for (size_t i = 0; i < count; i++) {
		struct round *round = &arena->rounds[i];

		(void)pthread_barrier_wait(&arena->start);
		round->outcomes[number] =
		    (unsigned char)use_ticket(round->ticket,
			i % 2 == 0 ? &arena->start : NULL);
	}
	close_all();
	_exit(0);
}

static struct arena *
make_arena(size_t count)
{
	size_t size = sizeof(struct arena) +
	    count * sizeof(((struct arena *)0)->rounds[0]);
	struct arena *arena = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_barrierattr_t attr;

	assert_ptr_not_equal(arena, MAP_FAILED);
	(void)pthread_barrierattr_init(&attr);
	(void)pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	assert_int_equal(pthread_barrier_init(&arena->start, &attr, PROCESSES),
	    0);
	(void)pthread_barrierattr_destroy(&attr);
	return arena;
}

static void
make_tickets(struct arena *arena, size_t count)
{
	/* one user has no more than a quarter of all */
	static const char *const users[] = { "ann", "bob", "carl", "dan" };
	struct store_ticket in = { .route = TEXT("/ws"),
		.once = true,
		.created = clock_unix(),
		.expires = clock_unix() + LIFE_S };
	char id[TICKET_ID_BYTES + 1], *text;

	open_all();
	for (size_t i = 0; i < count; i++) {
		in.user = TEXT(users[i % 4]);
		assert_int_equal(ticket_make(&in, id, &text, NULL), ERR_OK);
		assert_true(strlen(text) < TICKET_BYTES);
		(void)strcpy(arena->rounds[i].ticket, text);
		memset(arena->rounds[i].outcomes, OTHER_OUTCOME, PROCESSES);
		free(text);
	}
	/* before the fork: a connection must not be carried into a child */
	close_all();
}

static size_t
count_tickets(void)
{
	const char *asked = getenv("RACE_TICKETS");
	long count = asked == NULL ? TICKETS : strtol(asked, NULL, 10);

	assert_in_range(count, 1, TICKETS_MAX);
	return (size_t)count;
}

static void
one_of_all_that_race_wins(void **state)
{
	size_t count = count_tickets(), wins[PROCESSES] = { 0 };
	struct arena *arena = make_arena(count);
	int64_t started_ms;
	int status;

	(void)state;
	make_tickets(arena, count);
	started_ms = clock_ms();
	for (int i = 0; i < PROCESSES; i++) {
		pid_t pid = fork();

		assert_int_not_equal(pid, -1);
		if (pid == 0)
			be_a_broker(arena, count, i);
	}
	for (int i = 0; i < PROCESSES; i++) {
		assert_int_not_equal(wait(&status), -1);
		assert_int_equal(status, 0);
	}
	for (size_t i = 0; i < count; i++) {
		size_t winners = 0;

		for (int n = 0; n < PROCESSES; n++) {
			enum err err = arena->rounds[i].outcomes[n];

			if (err == ERR_OK) {
				winners++;
				wins[n]++;
			} else if (err != ERR_UNAUTH) {
				fail_msg("%zu: outcome %d", i, (int)err);
			}
		}
		if (winners != 1)
			fail_msg("%zu: %zu winners", i, winners);
	}
	print_message("# %zu tickets, %d processes: %lld ms; won: %zu %zu %zu "
		      "%zu\n",
	    count, PROCESSES, (long long)(clock_ms() - started_ms), wins[0],
	    wins[1], wins[2], wins[3]);
	/* it was a race, and not a row */
	for (int n = 0; n < PROCESSES; n++)
		assert_int_not_equal(wins[n], count);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(one_of_all_that_race_wins,
		    make_folder, remove_folder),
	};

	return cmocka_run_group_tests_name("ticket_race", tests, NULL, NULL);
}
