/* SPDX-License-Identifier: MIT */
#include "common/wire_text.h"

#include <stdlib.h>
#include <string.h>

#include "common/str.h"

bool
wire_is_text(const char *s, size_t len)
{
	(void)s;
	(void)len;
	return true;
}

/* What can stand in one line of a log and in one JSON string. */
bool
wire_is_line(const char *s, size_t len)
{
	return len > 0 && str_is_field_value(s, len);
}

bool
wire_is_visible(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] <= 0x20 || s[i] >= 0x7f)
			return false;
	return len > 0;
}

/* Origin-form (RFC 9112 3.2.1); a fragment is never sent. */
bool
wire_is_target(const char *s, size_t len)
{
	return s[0] == '/' && wire_is_visible(s, len) &&
	    memchr(s, '#', len) == NULL;
}

bool
wire_is_path(const char *s, size_t len)
{
	return s[0] == '/' && wire_is_line(s, len);
}

bool
wire_is_host(const char *s, size_t len)
{
	static const char allowed[] =
	    "abcdefghijklmnopqrstuvwxyz"
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]";

	return len > 0 && strspn(s, allowed) == len;
}

bool
wire_is_address(const char *s, size_t len)
{
	(void)len;
	return str_is_address(s);
}

bool
wire_is_side(const char *s, size_t len)
{
	static const char *const sides[] = { "client", "upstream", "tunnel",
		"broker" };

	(void)len;
	for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++)
		if (strcmp(s, sides[i]) == 0)
			return true;
	return false;
}

bool
wire_is_form(const char *s, size_t len)
{
	(void)len;
	return strcmp(s, "beta") == 0 || strcmp(s, "text") == 0;
}

bool
wire_is_log(const char *s, size_t len)
{
	(void)len;
	return strcmp(s, "metadata") == 0 || strcmp(s, "full") == 0;
}

/* Of the Gregorian calendar, in this millennium or the last one. */
bool
wire_is_day(const char *s, size_t len)
{
	static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30,
		31 };
	uint64_t year, month, day;
	bool leap;

	if (len != 10 || s[4] != '-' || s[7] != '-' ||
	    str_to_u64(s, 4, 2999, &year) != ERR_OK ||
	    str_to_u64(s + 5, 2, 12, &month) != ERR_OK ||
	    str_to_u64(s + 8, 2, 31, &day) != ERR_OK)
		return false;
	leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	return year >= 1970 && month >= 1 && day >= 1 &&
	    day <= (uint64_t)days[month - 1] + (leap && month == 2);
}

bool
wire_is_sum(const char *s, size_t len)
{
	(void)len;
	return strcmp(s, "day") == 0 || strcmp(s, "route") == 0 ||
	    strcmp(s, "user") == 0 || strcmp(s, "model") == 0;
}

/* Six decimals: micro-units are all that is counted. */
bool
wire_is_amount(const char *s, size_t len)
{
	static const char digits[] = "0123456789";
	const char *p = s + (s[0] == '-');
	size_t whole = strspn(p, digits), part = 0;

	p += whole;
	if (*p == '.') {
		part = strspn(p + 1, digits);
		if (part == 0)
			return false;
		p += 1 + part;
	}
	return p == s + len && whole > 0 && whole <= 7 && part <= 6 &&
	    strpbrk(s, "123456789") != NULL;
}

bool
wire_is_refusal(const char *s, size_t len)
{
	(void)len;
	return strcmp(s, "close") == 0 || strcmp(s, "error") == 0;
}

bool
wire_is_revocable(const char *s, size_t len)
{
	(void)len;
	return strcmp(s, "user") == 0 || strcmp(s, "session") == 0 ||
	    strcmp(s, "ticket") == 0 || strcmp(s, "route") == 0;
}

bool
wire_is_counted(const char *s, size_t len)
{
	(void)len;
	return strcmp(s, "user") == 0 || strcmp(s, "visitor") == 0 ||
	    strcmp(s, "address") == 0 || strcmp(s, "route") == 0;
}

void
wire_text_free(char *text, size_t len)
{
	if (text != NULL)
		explicit_bzero(text, len);
	free(text);
}

void
wire_text_clear(char *text)
{
	wire_text_free(text, text == NULL ? 0 : strlen(text));
}
