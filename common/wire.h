/* SPDX-License-Identifier: MIT */
#ifndef COMMON_WIRE_H
#define COMMON_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/err.h"
#include "common/wire_headers.h"
#include "common/wire_text.h"

/*
 * wire: the packets of the control socket (docs/architecture.md).
 *
 * A packet is one JSON object in one SEQPACKET datagram of at most
 * WIRE_MAX_BYTES: {"v":1,"type":"...", ...}.  Unknown members are ignored, an
 * unknown type or version is refused.  This module is pure: it turns
 * structures into packets and back, and both sides use it.
 *
 * wire_parse_*() make a structure whose strings belong to it; free it with
 * wire_packet_free().  wire_format() makes a packet; the caller frees it (and
 * clears it: a grant holds a vendor's key).
 */
#define WIRE_VERSION   1
#define WIRE_MAX_BYTES (64 * 1024)

#define WIRE_ADDRESSES_MAX    8
#define WIRE_SUBPROTOCOLS_MAX 16
#define WIRE_EVENTS_MAX	      64   /* of one usage packet */
#define WIRE_RECORDS_MAX      512  /* of one log packet */
#define WIRE_ASKS_MAX	      16   /* that are open at once */
#define WIRE_RESUME_BYTES     4096 /* of the text that takes up a lease */

enum wire_type {
	WIRE_OPEN,    /* tunnel -> broker: may this request be tunnelled? */
	WIRE_GRANT,   /* broker -> tunnel: yes, and this is how */
	WIRE_DENY,    /* broker -> tunnel: no, answer this */
	WIRE_USAGE,   /* tunnel -> broker: totals so far, the vendor's usage */
	WIRE_END,     /* tunnel -> broker: it is over, last totals */
	WIRE_CLOSE,   /* operator -> broker -> tunnel: end it */
	WIRE_LIMITS,  /* broker -> tunnel: new limits */
	WIRE_LIST,    /* operator -> broker: the open leases */
	WIRE_REPLY,   /* broker -> operator: a JSON value */
	WIRE_LOG,     /* tunnel -> broker: for the route's message log */
	WIRE_REPORT,  /* operator -> broker: what was used */
	WIRE_TOP_UP,  /* operator -> broker: add to a user's balance */
	WIRE_BALANCE, /* operator -> broker: what a user has */
	WIRE_ASK,     /* tunnel -> broker: may a response be begun? */
	WIRE_ANSWER,  /* broker -> tunnel: whether it may */
	WIRE_ACK,     /* broker -> tunnel: usage events that are booked */
	WIRE_RESUME,  /* tunnel -> broker: a lease of a broker before this */
	WIRE_RESUMED, /* broker -> tunnel: it goes on */
	WIRE_REVOKE,  /* operator -> broker: what was issued is not good */
	WIRE_BUDGETS, /* operator -> broker: how budgets stand */
	WIRE_PROBE,   /* operator -> broker: a look through the web server */
};

/* The request as the tunnel's peer sent it. */
struct wire_open {
	char *method;
	char *target; /* origin-form, RFC 9112 3.2.1 */
	struct wire_headers headers;
	bool peer_local;    /* came over a Unix socket */
	char *peer_address; /* numeric, NULL over a Unix socket */
};

/* Limits of one tunnel; 0 means none, except where said otherwise. */
struct wire_limits {
	uint64_t client_message_bytes;	 /* a message from the client */
	uint64_t upstream_message_bytes; /* a message from the vendor */
	uint64_t client_messages_per_s;	 /* over it: close 1008 */
	uint64_t client_bytes_per_s;	 /* over it: reading waits */
	int64_t connect_ms;  /* dial, TLS and 101 together; never 0 */
	int64_t idle_ms;     /* no data frame either way: close 4103 */
	int64_t lifetime_ms; /* from the 101: close 4200 */
	int64_t ping_ms;     /* silence of a peer before it is pinged */
	int64_t pong_ms;     /* silence after that: close 4102; never 0 */
	int64_t stall_ms;    /* a peer takes nothing: close 4101 */
	int64_t usage_ms;    /* between two usage packets */
	int64_t vendor_ms;   /* from the 101, when the vendor will close */
	int64_t warn_ms; /* ahead of the end, of either, the client is told */
};

/*
 * What a tunnel reads, and makes, of the messages that pass: nothing where all
 * of it is absent, and frames pass verbatim then.
 */
struct wire_messages {
	/*
	 * How the client speaks: NULL as the vendor does, "beta" OpenAI's
	 * older events (tunnel/dialect.h), "text" plain text
	 * (tunnel/text_chat.h).
	 */
	char *form;
	/*
	 * Members of `session' in a session.update that the tunnel sends
	 * first; the client is heard when the vendor has taken it.  NULL: none.
	 */
	json_t *session;
	json_t *pin; /* rules of common/pin.h; NULL: the client is free */
	bool usage;  /* report the vendor's usage events */
	/*
	 * Ask before each response (WIRE_ASK).  What becomes of one that is
	 * refused: "close" ends the tunnel (4003), "error" answers the client
	 * with an error in OpenAI's shape.  NULL: nobody is asked.
	 */
	char *budget;
	char *log; /* "metadata" or "full", see WIRE_LOG; NULL: no log */
	/* the largest message that is read whole; never 0 where one is */
	uint64_t inspect_bytes;
};

struct wire_grant {
	char *lease;   /* the broker's name for this connection */
	char *session; /* for the log and the ledger */
	char *route;   /* name of the route, for the log */
	struct {
		/*
		 * The upstream is the connected socket that comes with this
		 * packet (SCM_RIGHTS), and is a WebSocket already: nothing is
		 * dialled, and there are no addresses and none of the rest.
		 */
		bool passed;
		bool tls;
		char *addresses[WIRE_ADDRESSES_MAX]; /* numeric, in order */
		size_t address_count;
		uint16_t port;
		char *name;    /* for SNI and the certificate's check */
		char *ca_file; /* trust this alone; NULL: the system's store */
		char *host;    /* the Host header */
		char *target;  /* path and query */
		struct wire_headers headers; /* to add, secrets included */
		char *subprotocols[WIRE_SUBPROTOCOLS_MAX]; /* to offer */
		size_t subprotocol_count;
	} upstream;
	/*
	 * What the client's 101 says in Sec-WebSocket-Protocol: this, or,
	 * where it is NULL, what the vendor selected, if anything.
	 */
	char *subprotocol;
	struct wire_limits limits;
	struct wire_messages messages;
	char *resume; /* for WIRE_RESUME; signed, opaque to the tunnel */
};

/*
 * May a response be begun?  The client's message waits for the answer.  One
 * that the vendor began by itself (its turn detection) is asked for, too, and
 * cancelled where it may not be.
 */
struct wire_ask {
	int64_t n; /* from 1, without gaps, within the lease */
	/* the vendor makes it already: the answer must not wait for others */
	bool begun;
	/* of the client's events so far, but for audio: what it may take in */
	uint64_t input_bytes;
};

struct wire_answer {
	int64_t n;
	bool allowed;
	char *code, *message;  /* where not; for the client */
	int64_t retry_after_s; /* 0: not known */
};

/*
 * Events up to this number, from 0, need not be kept: they are in the ledger.
 * ended: nor need the end, and the connection is closed.
 */
struct wire_ack {
	int64_t n;
	bool ended;
};

/* A refusal, to be answered as HTTP with an error body. */
struct wire_deny {
	int status;		     /* 400 to 599 */
	char *code;		     /* for {"error":{"code"}} */
	char *message;		     /* for {"error":{"message"}} */
	json_t *body;		     /* in place of these two; NULL: they */
	struct wire_headers headers; /* as Retry-After */
};

struct wire_totals {
	uint64_t messages, bytes; /* data messages, payload bytes */
};

struct wire_usage {			     /* also of WIRE_END */
	struct wire_totals client, upstream; /* by who sent them */
	/*
	 * The vendor's usage since the last report, or NULL: an array of
	 * {"n","type","id","status"?,"usage","ask"?}.  n counts the tunnel's
	 * events from 1, so that none is booked twice; type is the vendor's
	 * event, id its response or item; usage its object, as it came.
	 */
	json_t *events;
	/*
	 * Of the asks up to `asked', those whose response may still cost
	 * something; the others are over.  An event of a response that was
	 * asked for has "ask": n, and settles it.
	 */
	int64_t asked, open[WIRE_ASKS_MAX];
	size_t open_count;
	/* WIRE_END only: */
	char *side;   /* "client", "upstream", "tunnel", "broker" */
	char *cause;  /* stable word, as "client_closed" */
	int code;     /* close code, 0 where there was none */
	char *reason; /* the peer's close reason, may be NULL */
};

/* The first packet of a connection, in place of WIRE_OPEN; events follow. */
struct wire_resume {
	char *resume;	    /* of the grant */
	int64_t elapsed_ms; /* since the 101 */
};

/* Of an operator; answered {"closed":n}, with kind NULL {"revocations":[]}. */
struct wire_revoke {
	char *kind;	/* "user", "session", "ticket", "route"; NULL: list */
	char *value;	/* where there is a kind */
	int64_t before; /* seconds since 1970; 0: now */
};

struct wire_close {
	int code; /* RFC 6455 7.4, a code that may be sent */
	char *reason;
	char *lease; /* which one: from the operator; else NULL */
};

/* Records of the message log; what they hold is tunnel/message_log.h's. */
struct wire_log {
	json_t *records;  /* array of objects */
	uint64_t dropped; /* that there was no room for, before these */
};

struct wire_report {
	char *from, *to; /* days, the last one included; UTC */
	char *by;	 /* "day", "route", "user", "model"; NULL: all four */
};

struct wire_account {
	char *user;
	/* WIRE_TOP_UP only: */
	char *amount; /* "5.00"; below 0 it is taken back */
	char *id;     /* so that it is booked once */
};

/* Whose; kind NULL: all that were used of today. */
struct wire_budgets {
	char *kind; /* "user", "visitor", "address", "route" */
	char *value;
};

struct wire_packet {
	enum wire_type type;
	union {
		struct wire_open open;
		struct wire_grant grant;
		struct wire_deny deny;
		struct wire_usage usage; /* WIRE_USAGE, WIRE_END */
		struct wire_close close;
		struct wire_limits limits;
		json_t *reply;
		struct wire_log log;
		struct wire_report report;
		struct wire_account account; /* WIRE_TOP_UP, WIRE_BALANCE */
		struct wire_ask ask;
		struct wire_answer answer;
		struct wire_ack ack;
		struct wire_resume resume;
		/* WIRE_RESUMED: limits */
		struct wire_revoke revoke;
		struct wire_budgets budgets;
	};
};

/*
 * Parse one datagram strictly: every string is checked against the use it
 * will be put to (no CR, LF or NUL in a header; tokens are tokens; numbers in
 * range), so that nothing of it has to be checked again.  ERR_PROTO, ERR_LIMIT.
 */
enum err wire_parse(const void *data, size_t len, struct wire_packet **ret,
    struct diag *diag) MUST_CHECK;

/*
 * Text of a packet: NUL-terminated JSON of *ret_len bytes; clear and free it
 * with wire_text_free().  ERR_LIMIT where it would exceed WIRE_MAX_BYTES, and
 * ERR_PROTO or ERR_LIMIT for whatever wire_parse() would refuse.
 */
enum err wire_format(const struct wire_packet *packet, char **ret,
    size_t *ret_len) MUST_CHECK;

/*
 * May this code stand in a close frame, here and in RFC 6455 7.4: 1000 to 1003,
 * 1007 to 1014, 3000 to 4999.
 */
bool wire_is_close_code(int code);

/* An empty packet of this type; free it with wire_packet_free(). */
struct wire_packet *wire_packet_new(enum wire_type type);

/* Clear (secrets) and free with all it owns; NULL is allowed. */
void wire_packet_free(struct wire_packet *packet);

#endif
