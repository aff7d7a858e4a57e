/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ASK_QUEUE_H
#define BROKER_ASK_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "broker/limits/budget.h"
#include "broker/store/ledger.h"
#include "broker/tunnels/leases.h"
#include "common/wire.h"

/*
 * ask_queue: the thread of control_asks, which waits for the store: reserving
 * and releasing, in the order of the calls, and asks that wait for a budget.
 *
 * All of it is called with asks->lock held.
 */
#define ASK_QUEUE_BUCKETS 1024
#define ASK_QUEUE_MAX	  8192 /* that the thread has not come to */
#define ASK_QUEUE_LOST	  4096 /* members that have left and may come back */

struct control_asks_options {
	int64_t wait_ms;  /* most that an ask waits */
	int64_t retry_ms; /* other processes settle, too */
	int64_t lost_ms;  /* that a lost tunnel has to come back */
	int64_t round_ms; /* in which each lease is looked at once */
};

/* How far an ask has come. */
enum ask_queue_stage {
	ASK_QUEUE_ASKED,
	ASK_QUEUE_ALLOWED, /* and the answer is not sent yet */
	ASK_QUEUE_SENT,
};

struct ask_queue_open {
	int64_t n;
	enum ask_queue_stage stage;
	int64_t tokens, money; /* that were reserved */
	int64_t input_bytes;   /* as in struct wire_ask */
};

/* A lease that has joined; what is about one holds a reference to it. */
struct ask_queue_member {
	unsigned refs;
	struct lease_info info; /* a copy */
	bool counted;		/* it has budgets */
	void *owner;		/* NULL: has left */
	int64_t lost_ms;	/* when what is open is lost, then */
	int64_t asked;		/* the last one; 0: none, or not known */
	bool taken_over;	/* what it had asked before it joined */
	struct ask_queue_open open[WIRE_ASKS_MAX];
	size_t open_count;
	struct ledger_largest largest; /* response so far */
	int64_t known_bytes; /* of the input: `largest' knows what they cost */
	struct ask_queue_result *ack; /* that waits to be taken */
	bool spent;		      /* was told so */
	int64_t spent_until; /* a day whose budget was logged as spent */
	unsigned works;	     /* that there are of it */
	unsigned lost;	     /* rows "lost" that are to be written */
	bool ended;	     /* it is to be told when there are none of both */
	LIST_ENTRY(ask_queue_member) entry;
};
LIST_HEAD(ask_queue_members, ask_queue_member);

/* What the thread has to do: reserve, or release, for an ask. */
struct ask_queue_work {
	struct ask_queue_member *member;
	int64_t n;
	bool release;
	int64_t input_bytes; /* as in struct wire_ask */
	int64_t deadline_ms; /* of a wait; 0: it must not */
	/* while it waits: for whose budget ("": the store), and whether to try
	   again now */
	char subject[STORE_SUBJECT_MAX + 1];
	bool due;
	TAILQ_ENTRY(ask_queue_work) entry;
};
TAILQ_HEAD(ask_queue_works, ask_queue_work);

struct ask_queue_result {
	struct ask_queue_member *member;
	struct wire_packet *packet;
	TAILQ_ENTRY(ask_queue_result) entry;
};

struct control_asks {
	struct control_asks_options options;
	int fd;
	pthread_t thread;
	pthread_mutex_t lock; /* over all that follows, and the members */
	pthread_cond_t wake;
	struct ask_queue_members members[ASK_QUEUE_BUCKETS];
	struct ask_queue_works queue, waiting;
	size_t queue_count, waiting_count;
	size_t lost_count; /* members that have left and may come back */
	TAILQ_HEAD(, ask_queue_result) results;
	uint64_t ends;	  /* of reservations, so far */
	bool due;	  /* some of those that wait may be */
	int64_t retry_ms; /* when all that waits is tried again */
	size_t member_count;
	int64_t visit_ms; /* when the next part of them is looked at ... */
	size_t part;	  /* ... this one */
	int64_t away_ms;  /* until then the store is not asked */
	bool stopping;
};

struct ask_queue_open *ask_queue_find_open(struct ask_queue_member *member,
    int64_t n);
void ask_queue_remove_open(struct ask_queue_member *member,
    struct ask_queue_open *open);

/* What a response of it is expected to come to. */
struct budget_ask ask_queue_make_ask(const struct ask_queue_member *member,
    int64_t input_bytes, const char *id);

/*
 * Reserve; the answer is posted.  Release; harmless where nothing is.  Both
 * only queue it; what is to be released and finds far too much queued expires.
 */
void ask_queue_reserve(struct control_asks *asks,
    struct ask_queue_member *member, const struct wire_ask *ask);
void ask_queue_release(struct control_asks *asks,
    struct ask_queue_member *member, int64_t n);
void ask_queue_drop(struct control_asks *asks, struct ask_queue_work *work);

/* Something of theirs has ended: who waits for one of them may go on. */
void ask_queue_wake(struct control_asks *asks, const struct subjects *subjects);

/* To be taken; takes the packet. */
struct ask_queue_result *ask_queue_post(struct control_asks *asks,
    struct ask_queue_member *member, struct wire_packet *packet);

/* Book what is open as lost: it is open no more. */
void ask_queue_book_open(struct ask_queue_member *member);

/* Tell one that has ended, once, when nothing is to be done for it any more. */
void ask_queue_check_end(struct control_asks *asks,
    struct ask_queue_member *member);

void ask_queue_log_spent(struct ask_queue_member *member,
    const struct store_budget_state *state);

/* End a reference; take it out of the table. */
void ask_queue_unref(struct ask_queue_member *member);
void ask_queue_forget(struct control_asks *asks,
    struct ask_queue_member *member);

/* The thread: until asks->stopping. */
void *ask_queue_run(void *asks);

#endif
