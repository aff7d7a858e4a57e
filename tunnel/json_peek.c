/* SPDX-License-Identifier: MIT */
#include "tunnel/json_peek.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/xalloc.h"

#define KEY_MAX	    64		  /* bytes of a key that can be watched */
#define KEY_OTHER   (KEY_MAX + 1) /* too long, or not ASCII: not watched */
#define BLOCK_BYTES 64		  /* of a string, looked at together */

typedef int8_t int8_vector __attribute__((vector_size(16)));

/* What comes next. */
enum place {
	AT_START,
	AT_FIRST_KEY, /* or the end of the object */
	AT_KEY,
	AT_COLON,
	AT_VALUE,
	AT_FIRST_ITEM, /* or the end of the array */
	AT_COMMA,      /* or the end of what it is in */
	AT_END,
	IN_STRING,
	IN_LITERAL,
	IN_NUMBER,
};

/* The last thing read of a number (RFC 8259 6). */
enum number {
	NUMBER_MINUS,
	NUMBER_ZERO,
	NUMBER_DIGITS,
	NUMBER_POINT,
	NUMBER_FRACTION,
	NUMBER_E,
	NUMBER_E_SIGN,
	NUMBER_EXPONENT,
};

struct watched {
	const char *path;
	enum json_peek_state state;
	uint64_t met;	     /* bit n: its n-th key has been met */
	unsigned depth;	     /* of the value that is kept */
	const uint8_t *from; /* what is to be kept of this piece */
	char *text;	     /* made when it is first needed: it may be large */
	size_t len, size;
};

struct json_peek {
	struct watched watched[JSON_PEEK_PATHS_MAX];
	size_t count;
	enum err err; /* of this text; it stays */

	enum place place;
	unsigned depth;
	uint64_t objects; /* bit n: the n-th bracket is a brace */
	/* bit p: the way to this object is the beginning of path p */
	uint16_t on_way[JSON_PEEK_DEPTH_MAX + 1];
	uint16_t below;	  /* the same for what the next value holds */
	uint16_t wanted;  /* bit p: the next value is that of path p */
	uint16_t keeping; /* bit p: the value of path p is being read */

	bool in_key, escaped;
	bool half; /* of a surrogate pair has been read, in a key */
	unsigned hex_left, unit;
	unsigned utf8_left;
	uint8_t utf8_low, utf8_high; /* what its next byte may be */
	char key[KEY_MAX];
	size_t key_len; /* or KEY_OTHER */

	const char *literal; /* what is to come of it */
	enum number number;
};

struct json_peek *
json_peek_new(const struct json_peek_path *paths, size_t count)
{
	struct json_peek *peek = xcalloc(1, sizeof(*peek));

	if (count > JSON_PEEK_PATHS_MAX)
		abort();
	peek->count = count;
	for (size_t i = 0; i < count; i++) {
		size_t max = paths[i].max_bytes;

		if (max > JSON_PEEK_TEXT_MAX)
			max = JSON_PEEK_TEXT_MAX;
		peek->watched[i].path = paths[i].path;
		peek->watched[i].size = max;
	}
	json_peek_reset(peek);
	return peek;
}

void
json_peek_free(struct json_peek *peek)
{
	if (peek == NULL)
		return;
	for (size_t i = 0; i < peek->count; i++)
		free(peek->watched[i].text);
	free(peek);
}

void
json_peek_reset(struct json_peek *peek)
{
	for (size_t i = 0; i < peek->count; i++) {
		peek->watched[i].state = JSON_PEEK_ABSENT;
		peek->watched[i].met = 0;
		peek->watched[i].len = 0;
	}
	peek->err = ERR_OK;
	peek->place = AT_START;
	peek->depth = 0;
	peek->keeping = peek->wanted = 0;
	peek->below = (uint16_t)((1U << peek->count) - 1);
}

static const uint8_t *
refuse(struct json_peek *peek, const uint8_t *p)
{
	peek->err = ERR_PROTO;
	return p;
}

/* ---- keeping ---- */

static void
keep(struct json_peek *peek, size_t path, const uint8_t *to)
{
	struct watched *watched = &peek->watched[path];
	size_t len = (size_t)(to - watched->from);

	if (len > watched->size - watched->len) {
		watched->state = JSON_PEEK_TOO_LARGE;
		peek->keeping &= (uint16_t) ~(1U << path);
		return;
	}
	memcpy(watched->text + watched->len, watched->from, len);
	watched->len += len;
}

/* The first byte of a value. */
static void
value_begins(struct json_peek *peek, const uint8_t *p)
{
	if (peek->wanted == 0)
		return;
	for (size_t i = 0; i < peek->count; i++)
		if ((peek->wanted & 1U << i) != 0) {
			struct watched *watched = &peek->watched[i];

			watched->from = p;
			watched->depth = peek->depth;
			if (watched->text == NULL)
				watched->text = xcalloc(1, watched->size + 1);
		}
	peek->keeping |= peek->wanted;
	peek->wanted = 0;
}

/* The first byte behind a value. */
static void
value_ends(struct json_peek *peek, const uint8_t *p)
{
	peek->place = peek->depth == 0 ? AT_END : AT_COMMA;
	peek->below = 0;
	if (peek->keeping == 0)
		return;
	for (size_t i = 0; i < peek->count; i++) {
		struct watched *watched = &peek->watched[i];

		if ((peek->keeping & 1U << i) == 0 ||
		    watched->depth != peek->depth)
			continue;
		keep(peek, i, p);
		if ((peek->keeping & 1U << i) == 0)
			continue;
		peek->keeping &= (uint16_t) ~(1U << i);
		watched->text[watched->len] = '\0';
		watched->state = JSON_PEEK_FOUND;
	}
}

/* ---- keys ---- */

static void
key_add(struct json_peek *peek, const void *bytes, size_t len)
{
	if (len > KEY_MAX || peek->key_len + len > KEY_MAX) {
		peek->key_len = KEY_OTHER;
		return;
	}
	memcpy(peek->key + peek->key_len, bytes, len);
	peek->key_len += len;
}

/* Whether the n-th key of the path is the one that was read. */
static bool
key_is(const struct json_peek *peek, const char *path, unsigned n, bool *last)
{
	size_t len;

	while (n-- > 0)
		path += strcspn(path, ".") + 1;
	len = strcspn(path, ".");
	*last = path[len] == '\0';
	return len == peek->key_len && memcmp(path, peek->key, len) == 0;
}

static void
key_ends(struct json_peek *peek)
{
	uint16_t on_way = peek->on_way[peek->depth];
	unsigned n = peek->depth - 1;
	bool last;

	peek->place = AT_COLON;
	for (size_t i = 0; on_way >> i != 0; i++) {
		struct watched *watched = &peek->watched[i];

		if ((on_way & 1U << i) == 0 ||
		    !key_is(peek, watched->path, n, &last))
			continue;
		if ((watched->met & (uint64_t)1 << n) != 0) {
			watched->state = JSON_PEEK_TWICE;
			continue;
		}
		watched->met |= (uint64_t)1 << n;
		if (last)
			peek->wanted |= (uint16_t)(1U << i);
		else
			peek->below |= (uint16_t)(1U << i);
	}
}

/*
 * A UTF-16 unit of an escape in a key.  What readers treat in ways of their
 * own (NUL, half a pair) has no place in a key.
 */
static bool
key_add_unit(struct json_peek *peek, unsigned unit)
{
	bool first = unit >= 0xd800 && unit <= 0xdbff;
	bool second = unit >= 0xdc00 && unit <= 0xdfff;
	char c = (char)unit;

	if (unit == 0 || second != peek->half)
		return false;
	peek->half = first;
	if (unit < 0x80)
		key_add(peek, &c, 1);
	else
		peek->key_len = KEY_OTHER;
	return true;
}

/* ---- strings ---- */

/* A quote, a backslash, a control character or no ASCII. */
static bool
is_plain(uint8_t c)
{
	return (int8_t)c >= 0x20 && c != '"' && c != '\\';
}

/*
 * Where a run of plain characters of a string ends.  Most of what passes is
 * sound in such runs, so they are looked at in vectors, as compilers offer
 * them on every machine.
 */
static const uint8_t *
plain_end(const uint8_t *p, const uint8_t *end)
{
	for (; end - p >= BLOCK_BYTES; p += BLOCK_BYTES) {
		int8_vector part, other = { 0 };
		uint64_t halves[2];

		for (size_t i = 0; i < BLOCK_BYTES; i += sizeof(part)) {
			memcpy(&part, p + i, sizeof(part));
			other |= (part < 0x20) | (part == '"') | (part == '\\');
		}
		memcpy(halves, &other, sizeof(halves));
		if ((halves[0] | halves[1]) != 0)
			break;
	}
	while (p < end && is_plain(*p))
		p++;
	return p;
}

static void
string_begins(struct json_peek *peek, bool in_key)
{
	peek->place = IN_STRING;
	peek->in_key = in_key;
	peek->escaped = peek->half = false;
	peek->hex_left = peek->utf8_left = 0;
	peek->key_len = 0;
}

static void
string_ends(struct json_peek *peek, const uint8_t *p)
{
	if (peek->in_key)
		key_ends(peek);
	else
		value_ends(peek, p);
}

/* A byte of UTF-8 (RFC 3629 4): no overlong form could hide a quote. */
static bool
utf8_go_on(struct json_peek *peek, uint8_t c)
{
	if (peek->utf8_left > 0) {
		if (c < peek->utf8_low || c > peek->utf8_high)
			return false;
		peek->utf8_left--;
		peek->utf8_low = 0x80;
		peek->utf8_high = 0xbf;
		return true;
	}
	peek->utf8_low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
	peek->utf8_high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
	peek->utf8_left = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
	peek->key_len = KEY_OTHER;
	return c >= 0xc2 && c <= 0xf4;
}

static int
hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A byte behind a backslash. */
static bool
escape_go_on(struct json_peek *peek, uint8_t c)
{
	static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	const char *name;
	int digit;

	if (peek->hex_left > 0) {
		digit = hex_digit(c);
		if (digit < 0)
			return false;
		peek->unit = peek->unit << 4 | (unsigned)digit;
		if (--peek->hex_left > 0)
			return true;
		peek->escaped = false;
		return !peek->in_key || key_add_unit(peek, peek->unit);
	}
	if (c == 'u') {
		peek->hex_left = 4;
		peek->unit = 0;
		return true;
	}
	peek->escaped = false;
	name = memchr(names, c, sizeof(names) - 1);
	return name != NULL &&
	    (!peek->in_key || key_add_unit(peek, (uint8_t)meant[name - names]));
}

static const uint8_t *
string_go_on(struct json_peek *peek, const uint8_t *p, const uint8_t *end)
{
	const uint8_t *stop;

	while (p < end) {
		if (peek->escaped) {
			if (!escape_go_on(peek, *p++))
				return refuse(peek, p);
			continue;
		}
		if (*p == '\\' && peek->utf8_left == 0) {
			peek->escaped = true;
			p++;
			continue;
		}
		/* half a pair in a key, and not the other half */
		if (peek->half)
			return refuse(peek, p);
		while (p < end && (*p >= 0x80 || peek->utf8_left > 0))
			if (!utf8_go_on(peek, *p++))
				return refuse(peek, p);
		stop = plain_end(p, end);
		if (peek->in_key)
			key_add(peek, p, (size_t)(stop - p));
		p = stop;
		if (p < end && *p == '"') {
			string_ends(peek, p + 1);
			return p + 1;
		}
		if (p < end && *p < 0x20)
			return refuse(peek, p);
	}
	return p;
}

/* ---- numbers, literals ---- */

static const uint8_t *
literal_go_on(struct json_peek *peek, const uint8_t *p, const uint8_t *end)
{
	while (p < end && *peek->literal != '\0')
		if (*p++ != (uint8_t)*peek->literal++)
			return refuse(peek, p);
	if (*peek->literal == '\0')
		value_ends(peek, p);
	return p;
}

/* False where c cannot follow; a number that has ended stays as it is. */
static bool
number_go_on(enum number *number, uint8_t c)
{
	bool digit = c >= '0' && c <= '9', e = (c | 0x20) == 'e';

	switch (*number) {
	case NUMBER_MINUS:
		*number = c == '0' ? NUMBER_ZERO : NUMBER_DIGITS;
		return digit;
	case NUMBER_ZERO:
	case NUMBER_DIGITS:
		if (c == '.')
			*number = NUMBER_POINT;
		else if (e)
			*number = NUMBER_E;
		else
			return digit && *number == NUMBER_DIGITS;
		return true;
	case NUMBER_POINT:
		*number = NUMBER_FRACTION;
		return digit;
	case NUMBER_FRACTION:
		if (e)
			*number = NUMBER_E;
		return e || digit;
	case NUMBER_E:
		*number = digit ? NUMBER_EXPONENT : NUMBER_E_SIGN;
		return digit || c == '+' || c == '-';
	case NUMBER_E_SIGN:
		*number = NUMBER_EXPONENT;
		return digit;
	case NUMBER_EXPONENT:
		return digit;
	}
	return false;
}

static const uint8_t *
numeral_go_on(struct json_peek *peek, const uint8_t *p, const uint8_t *end)
{
	for (; p < end; p++) {
		enum number before = peek->number;

		if (number_go_on(&peek->number, *p))
			continue;
		if (before != NUMBER_ZERO && before != NUMBER_DIGITS &&
		    before != NUMBER_FRACTION && before != NUMBER_EXPONENT)
			return refuse(peek, p);
		value_ends(peek, p);
		return p;
	}
	return p;
}

/* ---- structure ---- */

static void
open_bracket(struct json_peek *peek, bool object)
{
	if (peek->depth == JSON_PEEK_DEPTH_MAX) {
		peek->err = ERR_LIMIT;
		return;
	}
	peek->objects &= ~((uint64_t)1 << peek->depth);
	peek->objects |= (uint64_t)object << peek->depth;
	peek->depth++;
	peek->on_way[peek->depth] = object ? peek->below : 0;
	peek->below = 0;
	peek->place = object ? AT_FIRST_KEY : AT_FIRST_ITEM;
}

static bool
in_object(const struct json_peek *peek)
{
	return (peek->objects >> (peek->depth - 1) & 1) != 0;
}

static void
close_bracket(struct json_peek *peek, const uint8_t *p)
{
	if ((*p == '}') != in_object(peek)) {
		peek->err = ERR_PROTO;
		return;
	}
	peek->depth--;
	value_ends(peek, p + 1);
}

static void
begin_value(struct json_peek *peek, const uint8_t *p)
{
	value_begins(peek, p);
	switch (*p) {
	case '{':
	case '[':
		open_bracket(peek, *p == '{');
		return;
	case '"':
		string_begins(peek, false);
		return;
	case 't':
	case 'f':
	case 'n':
		peek->place = IN_LITERAL;
		peek->literal = *p == 't' ? "rue" : *p == 'f' ? "alse" : "ull";
		return;
	default:
		peek->place = IN_NUMBER;
		peek->number = NUMBER_MINUS;
		if (*p != '-' && !number_go_on(&peek->number, *p))
			peek->err = ERR_PROTO;
	}
}

/* A byte between values, which is no blank. */
static void
structure(struct json_peek *peek, const uint8_t *p)
{
	bool closes = *p == '}' || *p == ']';

	if ((peek->place == AT_COMMA && closes) ||
	    (peek->place == AT_FIRST_KEY && *p == '}') ||
	    (peek->place == AT_FIRST_ITEM && *p == ']'))
		close_bracket(peek, p);
	else if (peek->place == AT_COMMA && *p == ',')
		peek->place = in_object(peek) ? AT_KEY : AT_VALUE;
	else if (peek->place == AT_COLON && *p == ':')
		peek->place = AT_VALUE;
	else if (peek->place == AT_START && *p == '{')
		open_bracket(peek, true);
	else if ((peek->place == AT_FIRST_KEY || peek->place == AT_KEY) &&
	    *p == '"')
		string_begins(peek, true);
	else if (peek->place == AT_VALUE || peek->place == AT_FIRST_ITEM)
		begin_value(peek, p);
	else
		peek->err = ERR_PROTO;
}

static const uint8_t *
structure_go_on(struct json_peek *peek, const uint8_t *p, const uint8_t *end)
{
	while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r'))
		p++;
	if (p == end)
		return p;
	structure(peek, p);
	return p + 1;
}

enum err
json_peek_feed(struct json_peek *peek, const void *data, size_t len)
{
	const uint8_t *p = data, *end;

	if (len == 0)
		return peek->err;
	end = p + len;
	for (size_t i = 0; peek->keeping >> i != 0; i++)
		peek->watched[i].from = p;
	while (p < end && peek->err == ERR_OK) {
		if (peek->place == IN_STRING)
			p = string_go_on(peek, p, end);
		else if (peek->place == IN_LITERAL)
			p = literal_go_on(peek, p, end);
		else if (peek->place == IN_NUMBER)
			p = numeral_go_on(peek, p, end);
		else
			p = structure_go_on(peek, p, end);
	}
	for (size_t i = 0; peek->keeping >> i != 0; i++)
		if ((peek->keeping & 1U << i) != 0)
			keep(peek, i, end);
	return peek->err;
}

enum err
json_peek_end(struct json_peek *peek)
{
	if (peek->err == ERR_OK && peek->place != AT_END)
		peek->err = ERR_PROTO;
	return peek->err;
}

/* ---- answers ---- */

enum json_peek_state
json_peek_state(const struct json_peek *peek, size_t path)
{
	return peek->watched[path].state;
}

const char *
json_peek_value(const struct json_peek *peek, size_t path, size_t *ret_len)
{
	if (ret_len != NULL)
		*ret_len = peek->watched[path].len;
	return peek->watched[path].text;
}

bool
json_peek_string(const struct json_peek *peek, size_t path, char *out,
    size_t size)
{
	const struct watched *watched = &peek->watched[path];
	const char *text = watched->text;
	json_t *value = NULL;
	size_t len;
	bool fits;

	if (watched->state != JSON_PEEK_FOUND || text[0] != '"')
		return false;
	if (memchr(text, '\\', watched->len) == NULL) {
		text++;
		len = watched->len - 2;
	} else {
		/* refuses what is no text: NUL, half a surrogate pair */
		if (json_parse(text, watched->len, &value, NULL) != ERR_OK)
			return false;
		text = json_string_value(value);
		len = json_string_length(value);
	}
	fits = len < size;
	if (fits) {
		memcpy(out, text, len);
		out[len] = '\0';
	}
	json_decref(value);
	return fits;
}
