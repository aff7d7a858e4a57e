/* SPDX-License-Identifier: MIT */
#include "broker/store/store_sqlite_generation.h"

#include <stdlib.h>
#include <string.h>

#include "broker/store/store_sqlite_account.h"
#include "broker/store/store_sqlite_base.h"
#include "broker/store/store_sqlite_budget.h"
#include "broker/store/store_sqlite_chat.h"
#include "broker/store/store_sqlite_usage.h"
#include "common/xalloc.h"

/* ---- beginning --------------------------------------------------------- */

/* What the key began; ERR_NOTFOUND where it is new. */
static enum err
repeat(struct database *db, const struct store_begin *in,
    struct store_begun *begun, struct diag *diag)
{
	enum err err = database_find(db, GET_KEY,
	    PARAMS(TEXT(in->owner), TEXT(in->key), NUMBER(in->now_ms / 1000)),
	    diag);
	char *digest;

	if (err != ERR_OK)
		return err;
	digest = database_text(db, 0);
	*begun = (struct store_begun){
		.repeated = true,
		.state = (enum store_state)database_number(db, 1),
		.generation = database_text(db, 2),
		.chat = database_text(db, 3),
		.question = database_text(db, 4),
		.answer = database_text(db, 5),
		.replaces = database_text(db, 6),
		.new_chat = database_number(db, 7) != 0,
		.reserved = database_number(db, 8),
	};
	database_release(db);
	if (strcmp(digest, in->digest) != 0) {
		diag_set(diag, "this key was used for something else");
		err = ERR_MISMATCH;
	}
	free(digest);
	return err;
}

/* What is made: the chat, and where in it the answer will be. */
struct place {
	struct store_sqlite_chat chat;
	int64_t turn, version;
};

static enum err
find_chat(struct database *db, const struct store_begin *in,
    struct store_begun *begun, struct place *place, struct diag *diag)
{
	const char *id = in->chat;
	enum err err = ERR_OK;

	if (id == NULL && in->content != NULL) {
		id = in->new_chat;
		begun->new_chat = true;
		err = store_sqlite_insert_chat(db, in->owner, id, in->title,
		    in->now_ms, in->max_chats, diag);
	}
	if (err == ERR_OK)
		err = store_sqlite_find_chat(db, in->owner, id, &place->chat,
		    diag);
	if (err != ERR_OK)
		return err;
	begun->chat = xstrdup(id);
	return store_sqlite_check_idle(db, place->chat.number, diag);
}

static enum err
add_question(struct database *db, const struct store_begin *in,
    struct store_begun *begun, struct place *place, struct diag *diag)
{
	place->turn = place->chat.turns + 2;
	place->version = 1;
	if (place->turn > in->max_turns) {
		diag_set(diag, "the chat has %lld turns already",
		    (long long)place->chat.turns);
		return ERR_LIMIT;
	}
	begun->question = xstrdup(in->new_question);
	return database_run(db, ADD_QUESTION,
	    PARAMS(TEXT(in->new_question), NUMBER(place->chat.number),
		NUMBER(place->turn - 1), NUMBER(in->now_ms), TEXT(in->content)),
	    diag);
}

/* Which turn is to be made anew. */
static enum err
find_answer(struct database *db, const struct store_begin *in,
    struct store_begun *begun, struct place *place, struct diag *diag)
{
	enum err err = ERR_OK;

	place->turn = place->chat.turns;
	if (in->regenerate != NULL) {
		err = database_find(db, GET_TURN,
		    PARAMS(NUMBER(place->chat.number), TEXT(in->regenerate)),
		    diag);
		if (err == ERR_OK) {
			place->turn = database_number(db, 0);
			database_release(db);
		}
	}
	if (err == ERR_OK)
		err = database_find(db, GET_VERSION,
		    PARAMS(NUMBER(place->chat.number), NUMBER(place->turn)),
		    diag);
	if (err == ERR_NOTFOUND)
		diag_set(diag, "there is no such answer");
	if (err != ERR_OK)
		return err;
	place->version = database_number(db, 0) + 1;
	begun->replaces = database_text(db, 1);
	database_release(db);
	if (place->version > STORE_VERSIONS_MAX) {
		diag_set(diag, "the answer has %d versions already",
		    STORE_VERSIONS_MAX);
		return ERR_LIMIT;
	}
	return ERR_OK;
}

static enum err
reserve(struct database *db, const struct store_begin *in,
    struct store_begun *begun, struct diag *diag)
{
	int64_t amount;
	enum err err = ERR_OK;

	if (in->reserve == NULL)
		return ERR_OK;
	amount = in->reserve(&begun->history, in->arg);
	if (in->budget != NULL)
		err = store_sqlite_reserve_within(db, in->budget,
		    &begun->budget, diag);
	if (err != ERR_OK || in->user == NULL)
		return err;
	begun->reserved = amount < 0 ? 0 : amount;
	return store_sqlite_reserve(db, in->user, begun->reserved, diag);
}

static enum err
add_answer(struct database *db, const struct store_begin *in,
    struct store_begun *begun, const struct place *place, struct diag *diag)
{
	enum err err = database_run(db, ADD_GENERATION,
	    PARAMS(TEXT(in->generation), NUMBER(place->chat.number),
		NUMBER(begun->new_chat), TEXT(in->user), TEXT(in->model),
		NUMBER(begun->reserved), NUMBER(in->now_ms)),
	    diag);

	if (err == ERR_OK)
		err = database_run(db, ADD_ANSWER,
		    PARAMS(TEXT(in->new_answer), NUMBER(place->chat.number),
			NUMBER(place->turn), NUMBER(place->version),
			TEXT(in->generation), NUMBER(in->now_ms)),
		    diag);
	if (err == ERR_OK)
		err = database_run(db, TOUCH_CHAT,
		    PARAMS(NUMBER(place->chat.number), NUMBER(place->turn),
			NUMBER(in->now_ms)),
		    diag);
	if (err == ERR_OK && in->key != NULL)
		err = database_run(db, PUT_KEY,
		    PARAMS(TEXT(in->owner), TEXT(in->key), TEXT(in->digest),
			TEXT(in->generation),
			NUMBER(in->now_ms / 1000 + in->key_s)),
		    diag);
	begun->version = place->version;
	begun->answer = xstrdup(in->new_answer);
	begun->generation = xstrdup(in->generation);
	return err;
}

static enum err
begin(struct database *db, const struct store_begin *in,
    struct store_begun *begun, struct diag *diag)
{
	struct place place;
	enum err err = find_chat(db, in, begun, &place, diag);

	if (err == ERR_OK && in->content != NULL)
		err = add_question(db, in, begun, &place, diag);
	else if (err == ERR_OK)
		err = find_answer(db, in, begun, &place, diag);
	if (err == ERR_OK && in->allowance != NULL)
		err = store_sqlite_use_allowance(db, in->allowance,
		    in->now_ms / 1000, &begun->allowance, diag);
	if (err == ERR_OK)
		err = store_sqlite_read_history(db, place.chat.number,
		    place.turn, in->history_messages, in->history_bytes,
		    &begun->history, diag);
	if (err == ERR_OK)
		err = reserve(db, in, begun, diag);
	if (err == ERR_OK)
		err = add_answer(db, in, begun, &place, diag);
	return err;
}

enum err
store_sqlite_begin(struct store *store, const struct store_begin *in,
    struct store_begun *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	struct store_begun begun = { .repeated = false };
	enum err err;

	*ret = begun;
	err = database_begin(db, diag);
	if (err != ERR_OK)
		return err;
	err = in->key == NULL ? ERR_NOTFOUND : repeat(db, in, &begun, diag);
	if (err == ERR_NOTFOUND)
		err = begin(db, in, &begun, diag);
	else if (err == ERR_OK && begun.generation == NULL) {
		diag_set(diag, "what this key began has been deleted");
		err = ERR_NOTFOUND;
	}
	err = database_end(db, err, diag);
	if (err == ERR_OK) {
		*ret = begun;
		return ERR_OK;
	}
	if (err == ERR_RATE)
		ret->allowance = begun.allowance;
	if (err == ERR_BUDGET || err == ERR_AGAIN)
		ret->budget = begun.budget;
	store_begun_done(&begun);
	return err;
}

/* ---- what it makes ----------------------------------------------------- */

static enum err
add_piece(struct database *db, const char *generation,
    const struct store_piece *piece, struct diag *diag)
{
	enum err err = database_run(db, TAKE_PIECE,
	    PARAMS(TEXT(generation), NUMBER(piece->first), NUMBER(piece->last)),
	    diag);

	if (err != ERR_OK || database_changed(db) == 0)
		return err;
	return database_run(db, ADD_PIECE,
	    PARAMS(TEXT(generation), NUMBER(piece->first), TEXT(piece->events),
		TEXT(piece->content)),
	    diag);
}

enum err
store_sqlite_add_pieces(struct store *store, const struct store_piece *pieces,
    size_t count, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	enum err err = database_begin(db, diag);

	if (err != ERR_OK)
		return err;
	for (size_t i = 0; err == ERR_OK && i < count; i++)
		err = add_piece(db, pieces[i].generation, &pieces[i], diag);
	return database_end(db, err, diag);
}

/* One of a generation's texts, put together from its pieces. */
static enum err
join_pieces(struct database *db, int64_t number, int64_t from, int column,
    int64_t *ret_first, char **ret, struct diag *diag)
{
	char *text = xstrdup("");
	size_t len = 0, size = 1;
	enum err err = database_ask(db, GET_PIECES,
	    PARAMS(NUMBER(number), NUMBER(from)), diag);

	*ret_first = 0;
	if (err != ERR_OK) {
		free(text);
		return err;
	}
	while ((err = database_step(db, diag)) == ERR_OK) {
		char *piece = database_text(db, column);
		size_t more = strlen(piece) + 1;

		if (*ret_first == 0)
			*ret_first = database_number(db, 0);
		if (len + more > size) {
			size = (len + more) * 2;
			text = xreallocarray(text, size, 1);
		}
		(void)memcpy(text + len, piece, more);
		len += more - 1;
		free(piece);
	}
	database_release(db);
	if (err != ERR_NOTFOUND) {
		free(text);
		return err;
	}
	*ret = text;
	return ERR_OK;
}

/* ---- reading ----------------------------------------------------------- */

/* One generation, with the numbers that the tables know it and its chat by. */
struct found {
	struct store_generation generation;
	int64_t number, chat;
};

static enum err
find_generation(struct database *db, const char *owner, const char *id,
    struct found *ret, struct diag *diag)
{
	enum err err = database_find(db, GET_GENERATION,
	    PARAMS(TEXT(id), TEXT(owner)), diag);

	if (err == ERR_NOTFOUND)
		diag_set(diag, "there is no such answer");
	if (err != ERR_OK)
		return err;
	*ret = (struct found){
		.number = database_number(db, 0),
		.chat = database_number(db, 15),
		.generation = {
			.id = database_text(db, 1),
			.owner = database_text(db, 2),
			.user = database_text(db, 3),
			.chat = database_text(db, 4),
			.question = database_text(db, 5),
			.answer = database_text(db, 6),
			.model = database_text(db, 7),
			.state = (enum store_state)database_number(db, 8),
			.begun_ms = database_number(db, 9),
			.reserved = database_number(db, 10),
			.last = database_number(db, 11),
			.has_events = database_number(db, 12) != 0,
			.events_until = database_number(db, 13),
			.content = database_text(db, 14),
			.version = database_number(db, 16),
			.versions = database_number(db, 17),
			.input_tokens = (uint64_t)database_number(db, 18),
			.output_tokens = (uint64_t)database_number(db, 19),
		},
	};
	database_release(db);
	return ERR_OK;
}

/* The same with its content, which is in pieces while it runs. */
static enum err
read_generation(struct database *db, const char *owner, const char *id,
    struct store_generation *ret, struct diag *diag)
{
	struct found found;
	int64_t first;
	enum err err = find_generation(db, owner, id, &found, diag);

	if (err != ERR_OK)
		return err;
	if (found.generation.state == STORE_RUNNING) {
		free(found.generation.content);
		found.generation.content = NULL;
		err = join_pieces(db, found.number, 0, 2, &first,
		    &found.generation.content, diag);
	}
	if (err == ERR_OK)
		*ret = found.generation;
	else
		store_generation_done(&found.generation);
	return err;
}

enum err
store_sqlite_get_generation(struct store *store, const char *owner,
    const char *id, struct store_generation *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->chats;
	struct store_generation generation = { .id = NULL };
	enum err err = database_begin_reading(db, diag);

	if (err != ERR_OK)
		return err;
	err = read_generation(db, owner, id, &generation, diag);
	err = database_end(db, err, diag);
	if (err == ERR_OK)
		*ret = generation;
	else
		store_generation_done(&generation);
	return err;
}

/* Cut off the events up to number `after'; the first one here has `first'. */
static void
cut_events(char *text, int64_t first, int64_t after)
{
	const char *rest = text, *end;

	for (; first <= after && (end = strstr(rest, "\n\n")) != NULL; first++)
		rest = end + 2;
	(void)memmove(text, rest, strlen(rest) + 1);
}

static enum err
read_events(struct database *db, const char *id, int64_t after, char **ret,
    struct diag *diag)
{
	struct found found;
	bool has_events;
	int64_t first;
	enum err err = find_generation(db, NULL, id, &found, diag);

	if (err != ERR_OK)
		return err;
	has_events = found.generation.has_events;
	store_generation_done(&found.generation);
	if (!has_events) {
		diag_set(diag, "its events are kept no longer");
		return ERR_NOTFOUND;
	}
	after = after < 0 ? 0 : after < INT64_MAX ? after : INT64_MAX - 1;
	err = join_pieces(db, found.number, after + 1, 1, &first, ret, diag);
	if (err == ERR_OK)
		cut_events(*ret, first, after);
	return err;
}

enum err
store_sqlite_get_events(struct store *store, const char *generation,
    int64_t after, char **ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->chats;
	char *events = NULL;
	enum err err = database_begin_reading(db, diag);

	if (err != ERR_OK)
		return err;
	err = read_events(db, generation, after, &events, diag);
	err = database_end(db, err, diag);
	if (err == ERR_OK)
		*ret = events;
	else
		free(events);
	return err;
}

/* The ids of those that run; as generations, to be filled in. */
static enum err
list_ids(struct database *db, struct store_generations *list, struct diag *diag)
{
	size_t size = 0;
	enum err err = database_use(db, LIST_RUNNING, diag);

	if (err != ERR_OK)
		return err;
	while ((err = database_step(db, diag)) == ERR_OK) {
		if (list->count == size) {
			size = size == 0 ? 16 : size * 2;
			list->items = xreallocarray(list->items, size,
			    sizeof(list->items[0]));
		}
		list->items[list->count++] = (struct store_generation){
			.id = database_text(db, 0),
		};
	}
	database_release(db);
	return err == ERR_NOTFOUND ? ERR_OK : err;
}

enum err
store_sqlite_list_running(struct store *store, struct store_generations *ret,
    struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->chats;
	struct store_generations list = { .count = 0 };
	enum err err = database_begin_reading(db, diag);

	if (err != ERR_OK)
		return err;
	err = list_ids(db, &list, diag);
	for (size_t i = 0; err == ERR_OK && i < list.count; i++) {
		struct store_generation generation;

		err = read_generation(db, NULL, list.items[i].id, &generation,
		    diag);
		if (err != ERR_OK)
			break;
		store_generation_done(&list.items[i]);
		list.items[i] = generation;
	}
	err = database_end(db, err, diag);
	if (err == ERR_OK)
		*ret = list;
	else
		store_generations_done(&list);
	return err;
}

/* ---- ending ------------------------------------------------------------ */

static enum err
end_generation(struct database *db, const struct store_finish *in,
    const struct found *found, struct diag *diag)
{
	const char *user = found->generation.user;
	enum err err = ERR_OK;

	if (in->last.first > 0)
		err = add_piece(db, in->generation, &in->last, diag);
	if (err == ERR_OK)
		err = database_run(db, END_ANSWER,
		    PARAMS(NUMBER(found->number), TEXT(in->content)), diag);
	if (err == ERR_OK)
		err = database_run(db, END_GENERATION,
		    PARAMS(NUMBER(found->number), NUMBER(in->state),
			NUMBER((int64_t)in->input_tokens),
			NUMBER((int64_t)in->output_tokens),
			NUMBER(in->now_ms / 1000 + in->replay_s)),
		    diag);
	if (err == ERR_OK)
		err = database_run(db, TOUCH_CHAT,
		    PARAMS(NUMBER(found->chat), NUMBER(0), NUMBER(in->now_ms)),
		    diag);
	if (err == ERR_OK && in->usage != NULL)
		err = store_sqlite_insert_usage(db, in->usage, diag);
	if (err == ERR_OK) /* where it was not charged, too */
		err = database_run(db, END_RESERVATION,
		    PARAMS(TEXT(in->generation)), diag);
	if (err == ERR_OK && user != NULL)
		err = store_sqlite_settle(db, in->generation, user,
		    found->generation.reserved, in->charge, in->now_ms / 1000,
		    diag);
	return err;
}

static enum err
finish(struct database *db, const struct store_finish *in,
    struct store_finished *finished, struct diag *diag)
{
	struct found found;
	enum err err = find_generation(db, NULL, in->generation, &found, diag);

	if (err != ERR_OK)
		return err;
	finished->was_running = found.generation.state == STORE_RUNNING;
	if (finished->was_running)
		err = end_generation(db, in, &found, diag);
	if (err == ERR_OK)
		err = store_sqlite_get_charge(db, in->generation,
		    found.generation.user, finished, diag);
	store_generation_done(&found.generation);
	return err;
}

enum err
store_sqlite_finish(struct store *store, const struct store_finish *in,
    struct store_finished *ret, struct diag *diag)
{
	struct database *db = ((struct store_sqlite *)store)->db;
	struct store_finished finished = { .charged = 0 };
	enum err err = ERR_OK;

	if (in->usage != NULL)
		err = store_sqlite_check_usage(in->usage, diag);
	if (err == ERR_OK && in->charge < 0) {
		diag_set(diag, "a charge is not below 0");
		err = ERR_LIMIT;
	}
	if (err == ERR_OK)
		err = database_begin(db, diag);
	if (err != ERR_OK)
		return err;
	err = finish(db, in, &finished, diag);
	err = database_end(db, err, diag);
	if (err == ERR_OK)
		*ret = finished;
	return err;
}
