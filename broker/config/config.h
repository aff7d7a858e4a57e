/* SPDX-License-Identifier: MIT */
#ifndef BROKER_CONFIG_H
#define BROKER_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "broker/store/price.h"
#include "common/crypt.h"
#include "common/err.h"
#include "common/secret.h"
#include "common/wire.h"

/*
 * config: the configuration file, culvert.conf(5), read with libconfuse.
 *
 * config_load() checks everything that can be checked without the network, so
 * that a configuration that loads also works.  The result is never changed;
 * it is counted, so that a request keeps the one it began with over a reload.
 */

struct config_strings {
	char **items;
	size_t count;
};

/* Free the items; it is empty then. */
void config_strings_done(struct config_strings *strings);

/* A header that is added to the upstream's handshake. */
struct config_header {
	char *name;
	char *prefix;	       /* "Bearer ", or the whole value; never NULL */
	struct secret *secret; /* follows the prefix; may be NULL */
};

struct config_alias {
	char *from, *to;
};

/* A query parameter that a client may set, and to what. */
struct config_query {
	char *name;
	struct config_strings values; /* patterns (str_match); empty: any */
	char *fallback;		      /* where it is absent; may be NULL */
	/* parameters beside which an absent one stays absent */
	struct config_strings fallback_unless;
	struct config_alias *aliases; /* applied before values is checked */
	size_t alias_count;
};

/* Where a relay section leads. */
struct config_url {
	bool tls;   /* wss:// */
	char *host; /* name or numeric address, without brackets */
	uint16_t port;
	char *authority; /* the Host header: host, and port if not default */
	char *path;	 /* begins with / */
	char *query;	 /* fixed part, without ?; may be NULL */
};

void config_url_done(struct config_url *url);

/* What is kept of the messages that pass, for the operator. */
struct config_message_log {
	char *mode;	    /* "metadata" or "full"; NULL: nothing is kept */
	char *file;	    /* where there is a mode */
	uint64_t max_bytes; /* of the file, before it is put aside */
	unsigned keep;	    /* files that were put aside */
};

/* What a tunnel makes and reads of a relay's messages: struct wire_messages. */
struct config_messages {
	bool beta; /* clients speak the older events of OpenAI Realtime */
	bool text; /* clients send plain text */
	/*
	 * Members of `session' in the first session.update, without the model;
	 * NULL: none is sent.
	 */
	json_t *session;
	char *model;		 /* the only one; NULL: as its query has it */
	char *instructions_file; /* where they came from; NULL: elsewhere */
	char *tools_file;	 /* the same */
	bool pinned;		 /* a client may change client_may alone */
	struct config_strings client_may; /* dotted paths; see common/pin.h */
	bool usage;			  /* goes into the ledger */
	uint64_t inspect_bytes;
};

/* The largest session, as JSON: a grant has it twice, and has its limit. */
#define CONFIG_SESSION_MAX_BYTES (24 * 1024)

/* Tickets: our own short-lived keys, "ek_...". */
#define CONFIG_TICKET_MIN_S 10
#define CONFIG_TICKET_MAX_S 7200

/* A relay section; `openai' is one whose defaults know the vendor. */
struct config_relay {
	char *name;		     /* for logs: the first path, or "openai" */
	struct config_strings paths; /* exact request paths */
	struct config_url upstream;
	char *ca_file; /* NULL: the system's trust store */
	struct config_header *headers;
	size_t header_count;
	struct config_query *queries; /* others are dropped */
	size_t query_count;
	/*
	 * Subprotocols that a client may ask for.  subprotocol_pass: those it
	 * asked for are offered upstream and the vendor selects; otherwise the
	 * first it asked for is answered and the vendor is offered none.  A
	 * client that offers only others is refused, unless there are none
	 * here, when its offer is ignored.
	 */
	struct config_strings subprotocols;
	bool subprotocol_pass;
	bool allow_private;	  /* a name may resolve to a private address */
	uint64_t max_connections; /* at once; 0: no limit */
	struct wire_limits limits;
	struct config_messages messages;
	struct config_message_log message_log;
	bool require_ticket;  /* nobody is served without one */
	bool client_secrets;  /* POST client_secrets gives tickets */
	int64_t ticket_s;     /* how long one is good where nothing is asked */
	int64_t ticket_max_s; /* and at most */
	bool calls;	      /* POST calls begins WebRTC calls */
	bool ticket_once;  /* tickets of POST /api/tickets are spent on use */
	bool secret_once;  /* and those of client_secrets, too */
	bool require_user; /* a user of the site's, or a ticket */
	char *plan;	   /* limits of all of it together; NULL: none */
	char *over_budget; /* "close" or "error", see struct wire_messages */
};

/* Limits; whom they are for is said where their name is used.  0: none. */
struct config_plan {
	char *name;
	double requests_per_s;		   /* token bucket ... */
	uint64_t burst;			   /* ... of so many */
	uint64_t max_tunnels, max_streams; /* at once */
	uint64_t max_parked;		   /* the same, no key of a file */
	int64_t session_s;		   /* of one tunnel */
	int64_t day_s; /* of all tunnels, of one day (UTC) */
	uint64_t client_messages_per_s, client_bytes_per_s; /* of one tunnel */
	int64_t day_tokens, day_money; /* money in micro-units */
	/* reserved for a response of which nothing is known yet */
	int64_t response_tokens;
};

/* The site's own login: how its users' JWTs (RFC 7519) are checked. */
struct config_users {
	/* one of the three, or, with remote_user, none */
	struct crypt_key *key; /* a secret, or a public key in PEM ... */
	char *key_source;      /* ... "env:NAME", or the path of the file */
	char *jwks_file;
	char *jwks_url; /* https://, or http:// with allow_http */
	char *ca_file;	/* NULL: the system's trust store */
	bool allow_http, allow_private;
	int64_t jwks_refresh_s;		  /* how long a set is taken as fresh */
	struct config_strings algorithms; /* empty: all that fit the keys */
	char *issuer, *audience;	  /* NULL: not asked for */
	int64_t leeway_s;
	char *user_claim,
	    *plan_claim;  /* dotted paths; plan_claim may be NULL */
	char *cookie;	  /* that has the token; NULL: none */
	bool remote_user; /* whom the web server has signed in is a user */
};

enum config_identity {
	IDENTITY_RANDOM, /* prefix and 16 random hexadecimal digits */
	IDENTITY_FIXED,	 /* identity as configured */
};

/* A `token' section of `livekit': what a token of this template grants. */
struct config_token {
	char *name; /* "default", or the last part of the path */
	struct config_strings rooms; /* patterns that a client may ask for */
	char *room;		     /* where it asks for none; may be NULL */
	int64_t ttl_s;
	enum config_identity identity_mode;
	char *identity; /* prefix or fixed identity */
	bool client_name, client_metadata, client_attributes;
	bool client_agents; /* room_config.agents, dispatch by the client */
	struct config_strings agents; /* names that a client may dispatch */
	/*
	 * The claims that the template fixes, as they stand in the JWT:
	 * {"video":{...},"sip":{...},"kind":..,"metadata":..,"attributes":..,
	 * "roomConfig":{...},...}; room, sub, exp and the like are added by
	 * the token's maker.
	 */
	json_t *claims;
};

struct config_livekit {
	char *url; /* wss://... for the client */
	struct secret *api_key;
	struct secret *api_secret;
	struct config_token *tokens;
	size_t token_count;
	bool require_user;
	char *plan;
};

/* A persona that is configured here, not at the vendor. */
struct config_persona {
	char *name;    /* what clients ask for, as a personaId */
	char *file;    /* where its configuration is from */
	json_t *value; /* an object: the vendor's personaConfig */
};

struct config_anam {
	struct secret *api_key;
	char *url; /* of the vendor's API, without a / at its end */
	/* Hosts that engines may have (str_match): what is dialled for a
	   session is among these. */
	struct config_strings hosts;
	struct config_strings personas; /* ids (str_match) of the vendor's */
	struct config_persona *kept;
	size_t kept_count;
	char *public_url; /* "https://host", how clients reach us; NULL: as a
			     request says */
	char *ca_file;	  /* NULL: the system's trust store */
	bool allow_http, allow_private; /* an API or engine may be so */
	int64_t session_ttl_s, token_ttl_s;
	uint64_t max_sessions; /* made in session_ttl_s; 0: no limit */
	uint64_t max_connections;
	struct wire_limits limits;
	bool require_user;
	char *plan;
};

/* The chat: whom it asks, and what its users may. */
struct config_chat {
	char *url; /* "https://host/v1/chat/completions"; http, too */
	struct config_header *headers;
	size_t header_count;
	char *ca_file; /* NULL: the system's trust store */
	bool allow_http, allow_private;
	struct config_strings models; /* names; the first is the default */
	char *system;		      /* first message of all; NULL: none */
	char *system_file;	      /* where it came from; NULL: elsewhere */
	uint64_t content_bytes;	      /* of one message of a user */
	uint64_t history_messages, history_bytes;
	uint64_t max_output_tokens; /* asked of the vendor */
	uint64_t answer_bytes;	    /* most of an answer that is taken */
	int64_t first_ms, idle_ms, total_ms; /* to the first byte; of silence;
						of one answer in all */
	int64_t detach_ms;    /* it goes on without anybody listening */
	int64_t heartbeat_ms; /* between comments */
	int64_t replay_s;     /* how long events can be had again */
	unsigned max_streams; /* answers at once: descriptors, no threads ... */
	unsigned max_streams_per_owner; /* ... of one owner */
	unsigned max_readers;		/* of one answer */
	uint64_t max_chats, max_turns;	/* of one owner; of one chat */
	int64_t keep_s; /* users' chats that do not change; 0: for ever */
	bool balance;	/* users pay; all models have prices then */
	struct {
		bool allowed;
		int64_t messages, window_s;
		int64_t keep_s; /* as above, of theirs */
	} anonymous;
	bool require_user;
	char *plan;
};

/* Socket.IO, and Engine.IO below it. */
struct config_socketio {
	char *path; /* "/socket.io/" */
	int64_t ping_interval_ms, ping_timeout_ms;
	int64_t connect_timeout_ms; /* to the first CONNECT */
	int64_t recovery_ms;	    /* a connection can be taken up; 0: not */
	uint64_t max_payload;	    /* bytes of a message, or of a poll */
	uint64_t max_sessions, max_sessions_per_address;
	uint64_t queue_bytes; /* that wait for all clients; past it: few each */
	unsigned events_per_s, event_burst; /* of one client, to the chat */
	bool echo;	   /* the application for conformance tests */
	char *engine_path; /* bare Engine.IO, with echo */
};

/* An address range that may use the service; see `clients'. */
struct config_range {
	bool any;
	int family; /* AF_INET, AF_INET6 */
	uint8_t address[16];
	unsigned prefix_len;
};

/* What models cost. */
struct config_prices {
	char *models; /* a pattern */
	struct price price;
};

struct config {
	char *path; /* the file it came from */
	struct {
		struct config_range *clients; /* default: loopback */
		size_t client_count;
		struct config_strings
		    origins;	     /* "https://x", "loopback", "*" */
		bool missing_origin; /* serve clients that send no Origin */
	} access;
	struct {
		char *socket;
		mode_t mode;
		uid_t *users; /* may open tunnels, beside root and ourselves */
		size_t user_count;
		uint64_t max_connections; /* leases at once */
	} control;
	struct {
		unsigned threads;    /* requests at once */
		uint64_t body_bytes; /* largest request body */
		int64_t timeout_ms;  /* to read a request, to write an answer */
		int64_t stop_ms;     /* for running requests at the end */
		uint64_t waiting;    /* streams and polls at once */
		char *base_path;     /* prefix of every path; "" at the root */
	} requests;
	struct {
		struct secret *secret; /* signs them; NULL: a file's key */
		int64_t rotate_s;      /* a file's key is replaced; 0: never */
		int64_t ttl_s, ttl_max_s; /* of POST /api/tickets */
	} tickets;
	struct config_users *users; /* NULL: nobody signs in */
	struct config_plan *plans;
	size_t plan_count;
	struct {
		/* names of plans; NULL: no limits */
		char *user; /* of users whose token names none, or no known */
		char *anonymous, *address;
		int64_t revocation_s; /* how long revocations are kept */
	} limits;
	struct {
		char *path; /* NULL: nothing is kept */
	} store;
	struct config_prices *prices; /* the first that matches counts */
	size_t price_count;
	struct config_relay *relays;
	size_t relay_count;
	struct config_livekit *livekit; /* NULL: not configured */
	struct config_anam *anam;	/* NULL: not configured */
	struct config_chat *chat;	/* NULL: not configured */
	/* always there where chat is, or where the file has the section */
	struct config_socketio *socketio;
};

/*
 * Read and check a file.  ERR_PROTO and, in diag, "file:line: what is wrong
 * and what to write instead"; ERR_SYS where it cannot be read.  The caller
 * holds one reference.
 */
enum err config_load(const char *path, struct config **ret,
    struct diag *diag) MUST_CHECK;

/* The same from a text; name stands for the file in messages. */
enum err config_parse(const char *name, const char *text, size_t len,
    struct config **ret, struct diag *diag) MUST_CHECK;

/* An empty one, with one reference; for who fills it. */
struct config *config_new(void);

struct config *config_ref(struct config *config);
void config_unref(struct config *config); /* NULL is allowed */

/*
 * The configuration in force: config_current() takes a reference to it (NULL
 * where there is none yet),
 * config_set_current() takes ownership of the caller's.  Thread-safe.
 */
struct config *config_current(void);
void config_set_current(struct config *config);

/* Write the effective settings, secrets described only, as config text. */
void config_dump(const struct config *config, FILE *out);

/* The relay whose paths have this one; NULL where there is none. */
const struct config_relay *config_find_relay(const struct config *config,
    const char *path);

/* The relay of this name; NULL where there is none. */
const struct config_relay *
config_find_relay_by_name(const struct config *config, const char *name);

/* The persona of this name that is configured here; NULL: there is none. */
const struct config_persona *config_find_persona(const struct config *config,
    const char *name);

/* What a model costs; NULL where no price is known. */
const struct price *config_find_price(const struct config *config,
    const char *model);

/* The money of the chat's models, which have all the same; NULL: none. */
const char *config_chat_currency(const struct config *config);

/* The plan of this name (NULL is none); NULL where there is none. */
const struct config_plan *config_find_plan(const struct config *config,
    const char *name);

/* The token template of this name; NULL where there is none. */
const struct config_token *config_find_token(const struct config *config,
    const char *name);

#endif
