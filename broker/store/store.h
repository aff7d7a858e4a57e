/* SPDX-License-Identifier: MIT */
#ifndef BROKER_STORE_H
#define BROKER_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"

/*
 * store: what has to outlive a request, a process, a restart.
 *
 * Domain verbs over a backend; no SQL outside it.  Thread-safe, and safe
 * between processes (plain CGI).  Strings in what is written are copied, those
 * in what is read belong to the result.  Times are seconds since 1970.
 *
 * ERR_UNAVAIL where the backend cannot be used now (busy, full, away), with
 * the reason for the log; it may be tried again.  ERR_NOTFOUND where there is
 * nothing, or it has expired.
 */
struct store;

/* ---- Anam sessions: keyed by the vendor's session id ---- */

struct store_anam {
	char *id;	 /* the vendor's sessionId: a secret */
	char *user;	 /* who it was made for; NULL: not known */
	char *persona;	 /* for the log */
	char *token_id;	 /* jti of the client token that it was made with,
			    unique;  NULL: made without one */
	json_t *session; /* the vendor's answer, as it was */
	int64_t created, expires;
};
void store_anam_done(struct store_anam *session);

/* ---- tickets: what a short-lived key (ek_...) stands for ---- */

struct store_ticket {
	char *id;	 /* jti, unique */
	char *route;	 /* name of the relay that it opens */
	char *user;	 /* NULL: not known */
	char *plan;	 /* of the user; NULL: not known */
	char *model;	 /* NULL: the client's choice */
	char *address;	 /* the only client that may use it; NULL: any */
	char *origin;	 /* the only Origin that may; NULL: any */
	json_t *session; /* members of a session.update; NULL: none */
	bool once;	 /* it is spent when it is used ... */
	bool spent;	 /* ... and has been; only read */
	int64_t created, expires;
	/* of the ticket itself, the store does not have them: */
	int64_t issued; /* what it was asked for with */
	char *anon_id;	/* of who asked for it; NULL: a user, or none */
};
void store_ticket_done(struct store_ticket *ticket);

/* Most tickets that there may be at once: they are what clients ask for. */
#define STORE_TICKETS_MAX 20000

/* ---- the usage ledger: rows are added, never changed ---- */

enum store_tokens {
	STORE_INPUT_TEXT, /* without the cached ones */
	STORE_INPUT_AUDIO,
	STORE_INPUT_IMAGE,
	STORE_CACHED_TEXT,
	STORE_CACHED_AUDIO,
	STORE_CACHED_IMAGE,
	STORE_OUTPUT_TEXT,
	STORE_OUTPUT_AUDIO,
	STORE_TOKENS_COUNT,
};

/* Most tokens, and seconds, that a row may have, so that no sum overflows. */
#define STORE_TOKENS_MAX 1000000000

/*
 * Who is counted: "u:" and a user, "a:" and an anonymous id, "n:" and an
 * address (IPv6 by its /64), "r:" and a route.
 */
#define STORE_SUBJECT_MAX  160
#define STORE_SUBJECTS_MAX 4 /* that one thing is counted for */

struct store_usage {
	char *lease; /* with n the idempotency key */
	int64_t n;   /* number of the event within its tunnel, from 1 */
	char *session, *route;
	char *user, *model; /* NULL: not known */
	char *event;	    /* the vendor's type, "response.done" */
	char *vendor_id;    /* the response's or item's; may be NULL */
	char *status;	    /* "completed", "cancelled", ...; may be NULL */
	int64_t at;
	uint64_t tokens[STORE_TOKENS_COUNT];
	uint64_t total_tokens; /* as the vendor says */
	double seconds;	       /* of transcription that is charged by time */
	char *raw;	       /* the vendor's usage object, as it came */
	/*
	 * Whose budgets it is counted in, when it is booked, and by how much
	 * money; total_tokens are the tokens.  With it ends the reservation;
	 * where there are no subjects, those that it is of are counted.
	 */
	char *subjects[STORE_SUBJECTS_MAX]; /* up to the first NULL */
	int64_t money;			    /* micro-units; 0: no price known */
	char *reservation;		    /* NULL: there is none */
	/*
	 * n of the row "lost" that stands for the same response where it was
	 * given up before; 0: there cannot be one.  What is booked of this one
	 * is then "late", and of total and money what is more than that had.
	 */
	int64_t lost_n;
};
void store_usage_done(struct store_usage *usage);

/* Rows of one day, route, user and model, added up. */
struct store_sum {
	char *day;		    /* "2026-01-31", UTC */
	char *route, *user, *model; /* user, model: "" where not known */
	uint64_t events;
	uint64_t tokens[STORE_TOKENS_COUNT];
	uint64_t total_tokens;
	double seconds;
};

/* Most rows of one answer; past it a shorter time has to be asked for. */
#define STORE_SUMS_MAX 50000

struct store_sums {
	struct store_sum *items;
	size_t count;
};
void store_sums_done(struct store_sums *sums);

/* ---- accounts: what signed-in users have to spend, in micro-units ---- */

struct store_account {
	int64_t balance;  /* never negative */
	int64_t reserved; /* of it, for what runs; at most balance */
};

struct store_top_up {
	const char *id; /* the operator's, so that it is booked once */
	const char *user;
	int64_t amount; /* below 0: taken back */
	int64_t at;
};

/* Most that an account may hold, so that no sum overflows. */
#define STORE_BALANCE_MAX 1000000000000000

/* ---- budgets: what a subject may use of a day (UTC) ---- */

/* 0: no limit */
struct store_budget {
	const char *subject;
	int64_t max_tokens, max_money, max_seconds;
};

struct store_budgets {
	struct store_budget items[STORE_SUBJECTS_MAX];
	size_t count;
};

/* How one of them stands: the one that refuses, or has least left. */
struct store_budget_state {
	char subject[STORE_SUBJECT_MAX + 1]; /* "": none has a limit */
	int64_t tokens, money, seconds;	     /* used today, booked */
	int64_t reserved_tokens, reserved_money;
	int64_t resets; /* when the day ends, seconds since 1970 */
};

/* Whose response it is: of the ledger's row that stands for it in the end. */
struct store_lost {
	const char *lease, *session, *route;
	const char *user, *model; /* NULL: not known */
	int64_t ask;		  /* from 1; the row's n is -ask */
};

/* How many of them stand. */
struct store_budget_list {
	struct store_budget_state *items;
	size_t count;
	int64_t total; /* with those that there was no room for */
};

#define STORE_BUDGET_LIST_MAX 1000

struct store_reserve {
	const char *id; /* unique; reserved before, it is no error */
	struct store_budgets budgets;
	int64_t tokens, money; /* that it may come to */
	int64_t now, expires;  /* forgotten then, if nobody settles it ... */
	/* ... and booked as a row "lost", with these tokens and this money;
	   NULL: it has cost nothing. */
	const struct store_lost *lost;
};

/* How long a connection or a stream has lasted. */
struct store_seconds {
	const char *lease; /* what was booked for it before is not again */
	const char *subjects[STORE_SUBJECTS_MAX]; /* up to the first NULL */
	int64_t total;				  /* from its beginning */
	int64_t now;
};

/* ---- revocations ---- */

/*
 * What was issued for it before `before' is good no longer.  kind is "user",
 * "session", "ticket" or "route".
 */
struct store_revocation {
	char *kind, *value;
	int64_t before, expires; /* seconds since 1970 */
};

struct store_revocations {
	struct store_revocation *items;
	size_t count;
};
void store_revocations_done(struct store_revocations *revocations);

#define STORE_REVOCATIONS_MAX 10000

/* ---- leases that are over ---- */

/* What would take it up again is good until then, and is not to be taken. */
struct store_lease_end {
	char lease[33];
	int64_t expires; /* seconds since 1970 */
};

struct store_lease_ends {
	struct store_lease_end *items; /* free() it */
	size_t count;
};

/* Most of one answer. */
#define STORE_LEASE_ENDS_MAX 65536

/* ---- what anonymous clients may: so many messages in a window ---- */

struct store_allowance {
	const char *id;	     /* who: "i:..." */
	const char *address; /* and from where: "n:..."; each is counted */
	int64_t max;	     /* messages */
	int64_t window_s;    /* from the first one on */
};

struct store_allowance_state {
	int64_t used;	/* of the two the larger number */
	int64_t resets; /* when the window of that one ends; 0: none runs */
};

/* ---- chats ---- */

/*
 * An owner is "u:" and a user, or "a:" and an anonymous id; nobody finds what
 * is another's: it is ERR_NOTFOUND.  Ids are the caller's, random.  A chat is
 * a row of turns, alternately the user's and the assistant's; a turn of the
 * assistant may have several versions, of which the last one counts.
 */
#define STORE_ID_MAX	32
#define STORE_OWNER_MAX 160
#define STORE_TITLE_MAX 256 /* bytes */

/* Most versions of one turn. */
#define STORE_VERSIONS_MAX 100

struct store_chat {
	char *id, *title;
	int64_t created_ms, updated_ms;
	int64_t messages; /* turns */
};
void store_chat_done(struct store_chat *chat);

struct store_chats { /* one page, the last one changed first */
	struct store_chat *items;
	size_t count;
	int64_t total;
};
void store_chats_done(struct store_chats *chats);

/* Of an assistant's message: how its generation stands, or has ended. */
enum store_state {
	STORE_RUNNING,	   /* "streaming" */
	STORE_COMPLETE,	   /* "complete" */
	STORE_STOPPED,	   /* "stopped": by the user, or nobody came back */
	STORE_INTERRUPTED, /* "interrupted": the broker ended */
	STORE_FAILED,	   /* "failed": the vendor did */
	STORE_STATES_COUNT,
};
extern const char *const store_state_names[STORE_STATES_COUNT];

struct store_message {
	char *id;
	int64_t turn;		   /* from 1 */
	int64_t version, versions; /* from 1; how many there are */
	bool is_assistant;
	enum store_state state; /* a user's is STORE_COMPLETE */
	char *content;		/* while it runs: "" */
	char *model;		/* NULL: a user's */
	char *generation;	/* that made it; NULL: a user's */
	int64_t created_ms;
	uint64_t input_tokens, output_tokens; /* 0: not known */
};
void store_message_done(struct store_message *message);

struct store_messages {
	struct store_message *items;
	size_t count;
	int64_t total;
};
void store_messages_done(struct store_messages *messages);

/* Which messages; a page is counted from the newest, and in order. */
struct store_message_query {
	const char *owner, *chat;
	int64_t page, limit; /* page from 0 */
	bool all_versions;   /* or the last one of each turn */
};

/* ---- generations: the making of one assistant's message ---- */

struct store_begin {
	const char *owner;
	const char *user;  /* whose account pays; NULL: nobody's */
	const char *chat;  /* NULL: a new one */
	const char *title; /* of a new one */
	/* what is made here: ids that nothing has yet */
	const char *new_chat, *new_question, *new_answer, *generation;
	const char *content;	/* what the user says; NULL: an answer is to be
				   made anew, as a new version ... */
	const char *regenerate; /* ... of this one; NULL: of the last one */
	const char *model;
	const char *key;    /* Idempotency-Key; NULL: none */
	const char *digest; /* what a repetition has to be equal in */
	int64_t now_ms;
	int64_t key_s;				 /* how long a key is kept */
	int64_t max_chats, max_turns;		 /* of an owner; of a chat */
	const struct store_allowance *allowance; /* NULL: not counted */
	size_t history_messages, history_bytes;	 /* most that is read */
	/*
	 * What is to be reserved of user's balance, given what will be sent:
	 * called within the transaction.
	 */
	int64_t (*reserve)(const struct store_messages *history, void *arg);
	void *arg;
	/* In whose budgets, too, under the generation's id; reserve() may fill
	   it in.  NULL: in none. */
	const struct store_reserve *budget;
};

struct store_begun {
	bool repeated; /* the key was there: this was begun before */
	char *chat, *answer, *generation;
	char *question; /* NULL: an answer is made anew ... */
	char *replaces; /* ... and this was its last version until now */
	bool new_chat;
	int64_t version; /* of the answer; 0 where repeated */
	enum store_state state;
	int64_t reserved;
	/*
	 * What to send, the question last; empty where repeated.  Of the turns
	 * before the answer their last versions, without answers that are
	 * empty, whole, and as many of the newest as fit; the question always.
	 */
	struct store_messages history;
	/* filled with ERR_RATE, too */
	struct store_allowance_state allowance;
	/* filled with ERR_BUDGET and ERR_AGAIN, too */
	struct store_budget_state budget;
};
void store_begun_done(struct store_begun *begun);

/* What a generation has made so far, to be added at its end. */
struct store_piece {
	const char *generation;
	int64_t first, last; /* numbers of its events, from 1, without gaps */
	const char *events;  /* as they were sent, each with an empty line */
	const char *content; /* what they add to the message */
};

struct store_finish {
	const char *generation;
	enum store_state state;		 /* not STORE_RUNNING */
	const char *content;		 /* all of it */
	struct store_piece last;	 /* the last events; first 0: none */
	const struct store_usage *usage; /* for the ledger; NULL: none */
	uint64_t input_tokens, output_tokens;
	int64_t charge; /* micro-units; at most what is there is taken, and
			   nothing of what is reserved for others */
	int64_t now_ms;
	int64_t replay_s; /* how long its events are kept */
};

struct store_finished {
	bool was_running;	      /* or it was finished before */
	int64_t charged;	      /* micro-units */
	struct store_account account; /* of who has paid */
};

struct store_generation {
	char *id, *owner, *user, *chat, *question, *answer, *model;
	enum store_state state;
	int64_t begun_ms, reserved;
	int64_t last;  /* number of the last event that is stored; 0: none */
	char *content; /* so far */
	int64_t version, versions;	      /* of the answer */
	uint64_t input_tokens, output_tokens; /* 0: not known */
	bool has_events;      /* they can be replayed from the first on ... */
	int64_t events_until; /* ... for that long, seconds; 0: it runs */
};
void store_generation_done(struct store_generation *generation);

struct store_generations {
	struct store_generation *items;
	size_t count;
};
void store_generations_done(struct store_generations *generations);

/* ---- what is kept no longer ---- */

struct store_expiry {
	int64_t now;
	/* of chats that have not changed for so long; 0: for ever */
	int64_t user_keep_s, anonymous_keep_s;
};

/* ---- the backend ---- */

struct store_ops {
	const char *name;
	void (*close)(struct store *store);

	/* Whether it can be written to now; changes nothing.  ERR_UNAVAIL. */
	enum err (*probe)(struct store *store, struct diag *diag);

	/* ERR_DENIED where one that has not expired at in->created has the
	   id or the token_id. */
	enum err (*put_anam)(struct store *store, const struct store_anam *in,
	    struct diag *diag);
	enum err (*get_anam)(struct store *store, const char *id, int64_t now,
	    struct store_anam *ret, struct diag *diag);
	enum err (*get_anam_by_token)(struct store *store, const char *token_id,
	    int64_t now, struct store_anam *ret, struct diag *diag);

	/* ERR_DENIED where one that has not expired at in->created has it,
	   ERR_UNAVAIL where there are STORE_TICKETS_MAX, or half as many that
	   have no user, ERR_RATE where a quarter of them are this user's. */
	enum err (*put_ticket)(struct store *store,
	    const struct store_ticket *in, struct diag *diag);
	enum err (*get_ticket)(struct store *store, const char *id, int64_t now,
	    struct store_ticket *ret, struct diag *diag);

	/*
	 * Use a ticket up.  Of all calls for it, in whatever process, one is
	 * ERR_OK and the others are ERR_DENIED; ERR_NOTFOUND as get_ticket.
	 */
	enum err (*spend_ticket)(struct store *store, const char *id,
	    int64_t now, struct diag *diag);

	/*
	 * Reserve in all budgets, or in none, in one transaction.  ERR_BUDGET
	 * where one is used up; ERR_AGAIN where one has something left, but
	 * less than asked for, and others have reserved of it: ask again when
	 * these have settled.  Who is alone gets what is left.  *ret says how
	 * the one stands that refuses.
	 */
	enum err (*reserve)(struct store *store, const struct store_reserve *in,
	    struct store_budget_state *ret, struct diag *diag);
	/* Nothing was used of it, or it is not known: no error. */
	enum err (
	    *release)(struct store *store, const char *id, struct diag *diag);
	/* Book what is new of it, each in one transaction. */
	enum err (*add_seconds)(struct store *store,
	    const struct store_seconds *rows, size_t count, struct diag *diag);
	/* The one with least left; ERR_BUDGET where one is used up. */
	enum err (*check_budgets)(struct store *store,
	    const struct store_budgets *budgets, int64_t now,
	    struct store_budget_state *ret, struct diag *diag);

	/*
	 * Those of today of which something was used or is reserved, the
	 * dearest first, at most STORE_BUDGET_LIST_MAX; with a subject that
	 * one alone.  The caller frees the items.
	 */
	enum err (*list_budgets)(struct store *store, const char *subject,
	    int64_t now, struct store_budget_list *ret, struct diag *diag);

	/* A later `before' replaces an earlier one; ERR_LIMIT past
	   STORE_REVOCATIONS_MAX. */
	enum err (*revoke)(struct store *store,
	    const struct store_revocation *in, struct diag *diag);
	/* All that have not expired. */
	enum err (*list_revocations)(struct store *store, int64_t now,
	    struct store_revocations *ret, struct diag *diag);

	/* In one transaction; one that is there already is no error. */
	enum err (*end_leases)(struct store *store,
	    const struct store_lease_end *rows, size_t count,
	    struct diag *diag);
	/* Those that have not expired; of too many the last to expire. */
	enum err (*list_lease_ends)(struct store *store, int64_t now,
	    struct store_lease_ends *ret, struct diag *diag);

	/*
	 * Book rows in one transaction: all, or none.  A row whose lease and n
	 * are there already is not booked again, and is no error.  ERR_LIMIT
	 * for a row with more than STORE_TOKENS_MAX.
	 */
	enum err (*add_usage)(struct store *store,
	    const struct store_usage *rows, size_t count, struct diag *diag);
	/*
	 * Rows with from <= at < to, by day, route, user, model, in order.
	 * ERR_LIMIT past STORE_SUMS_MAX.  It may take long, and holds up
	 * nobody else.
	 */
	enum err (*sum_usage)(struct store *store, int64_t from, int64_t to,
	    struct store_sums *ret, struct diag *diag);

	/*
	 * Book a top-up; one whose id is there already is not booked again, and
	 * is no error unless its user or amount was another (ERR_MISMATCH).
	 * ERR_PAYMENT where less than that is there to be taken back, without
	 * what is reserved; ERR_LIMIT past STORE_BALANCE_MAX.
	 */
	enum err (*top_up)(struct store *store, const struct store_top_up *in,
	    struct store_account *ret, struct diag *diag);
	/* A user who was never heard of has nothing. */
	enum err (*get_account)(struct store *store, const char *user,
	    struct store_account *ret, struct diag *diag);
	enum err (*get_allowance)(struct store *store,
	    const struct store_allowance *in, int64_t now,
	    struct store_allowance_state *ret, struct diag *diag);

	/*
	 * ERR_LIMIT where the owner has max_chats; ERR_RATE where allowance
	 * (NULL: it is not counted) is used up.
	 */
	enum err (*add_chat)(struct store *store, const char *owner,
	    const char *id, const char *title, int64_t now_ms,
	    int64_t max_chats, const struct store_allowance *allowance,
	    struct diag *diag);
	enum err (*rename_chat)(struct store *store, const char *owner,
	    const char *id, const char *title, int64_t now_ms,
	    struct diag *diag);
	/* ERR_CONFLICT while an answer runs. */
	enum err (*delete_chat)(struct store *store, const char *owner,
	    const char *id, struct diag *diag);
	enum err (*get_chat)(struct store *store, const char *owner,
	    const char *id, struct store_chat *ret, struct diag *diag);
	enum err (*list_chats)(struct store *store, const char *owner,
	    int64_t page, int64_t limit, struct store_chats *ret,
	    struct diag *diag);
	enum err (*list_messages)(struct store *store,
	    const struct store_message_query *query, struct store_messages *ret,
	    struct diag *diag);

	/*
	 * Begin a generation, all in one transaction: the idempotency key, the
	 * chat, the allowance, the reservation, the question, the answer to be.
	 * ERR_MISMATCH: the key was used for something else; ERR_NOTFOUND: no
	 * such chat or message, or not an answer, or what the key began has
	 * been deleted; ERR_CONFLICT: an answer of this chat runs; ERR_RATE:
	 * the allowance is used up; ERR_PAYMENT: the balance is too low;
	 * ERR_BUDGET, ERR_AGAIN: as reserve();
	 * ERR_LIMIT: max_chats, max_turns, STORE_VERSIONS_MAX; ERR_DENIED: an
	 * id that ought to be new is not.  Then *ret is empty, but for the
	 * allowance or the budget, and nothing is counted, reserved or kept.
	 *
	 * A key is kept for key_s, and while what it began still runs.
	 */
	enum err (*begin)(struct store *store, const struct store_begin *in,
	    struct store_begun *ret, struct diag *diag);
	/*
	 * In one transaction.  A piece of what does not run, and one that is
	 * there already, is passed over; after a gap there is no replay.
	 */
	enum err (*add_pieces)(struct store *store,
	    const struct store_piece *pieces, size_t count, struct diag *diag);
	/*
	 * End it: the message, the ledger, the account, what is reserved in
	 * budgets under its id, in one transaction.
	 * What is finished already stays as it is, and is no error.
	 * ERR_NOTFOUND; ERR_LIMIT for a row as in add_usage, or a charge below
	 * 0.
	 */
	enum err (*finish)(struct store *store, const struct store_finish *in,
	    struct store_finished *ret, struct diag *diag);
	enum err (*get_generation)(struct store *store, const char *owner,
	    const char *id, struct store_generation *ret, struct diag *diag);
	/*
	 * Events after number `after' as they were sent, one text, which may be
	 * empty.  ERR_NOTFOUND where they cannot be had.
	 */
	enum err (*get_events)(struct store *store, const char *generation,
	    int64_t after, char **ret, struct diag *diag);
	/* Those that run: at the start, what a dead broker left behind. */
	enum err (*list_running)(struct store *store,
	    struct store_generations *ret, struct diag *diag);

	/*
	 * Forget sessions and tickets that have expired, keys, events and chats
	 * that are kept no longer, windows that are over; nothing of what runs,
	 * and nothing of the ledger or of accounts.  A reservation that nobody
	 * has settled becomes a row of the ledger, if it says of what.  A chat
	 * goes with all that is in it, as if deleted: a key that began in it
	 * stays for its time.
	 *
	 * It forgets some at a time, so that nobody waits long for the store;
	 * *ret_more where it should be called again at once.
	 */
	enum err (*expire)(struct store *store, const struct store_expiry *in,
	    bool *ret_more, struct diag *diag);
};

/* A backend's store begins with this. */
struct store {
	const struct store_ops *ops;
};

/*
 * The store that broker/main.c opened, or NULL where the configuration names
 * none.  It lives as long as the process.
 */
struct store *store_current(void);
void store_set_current(struct store *store);

#endif
