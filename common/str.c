/* SPDX-License-Identifier: MIT */
#include "common/str.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

char *
str_escape(char *out, size_t size, const void *in, size_t len)
{
	const uint8_t *p = in;
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		bool plain = p[i] > 0x20 && p[i] < 0x7f && p[i] != '\\' &&
		    p[i] != '"' && p[i] != '=';
		size_t need = plain ? 1 : 4;

		/* room for this one, the mark and the NUL */
		if (n + need + 4 > size) {
			memcpy(out + n, "...", 4);
			return out;
		}
		if (plain)
			out[n] = (char)p[i];
		else
			(void)snprintf(out + n, 5, "\\x%02x", p[i]);
		n += need;
	}
	out[n] = '\0';
	return out;
}

bool
str_is_token(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c <= 0x20 || c >= 0x7f ||
		    strchr("\"(),/:;<=>?@[\\]{}", c) != NULL)
			return false;
	}
	return len > 0;
}

bool
str_is_field_value(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];

		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return false;
	}
	return true;
}

/* Bytes of the well-formed sequence that starts at p, or 0 (table 3-7). */
static size_t
utf8_sequence(const uint8_t *p, size_t left)
{
	uint8_t low = 0x80, high = 0xbf;
	size_t n;

	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (left < n)
		return 0;
	if (p[0] == 0xe0)
		low = 0xa0;
	else if (p[0] == 0xed)
		high = 0x9f;
	else if (p[0] == 0xf0)
		low = 0x90;
	else if (p[0] == 0xf4)
		high = 0x8f;
	if (p[1] < low || p[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

bool
str_is_utf8(const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len > 0) {
		size_t n = utf8_sequence(p, len);

		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

bool
str_is_address(const char *s)
{
	struct in6_addr address; /* the larger one */

	return inet_pton(AF_INET, s, &address) == 1 ||
	    inet_pton(AF_INET6, s, &address) == 1;
}

static bool
is_path_byte(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
	    (c >= 'a' && c <= 'z') ||
	    (c != '\0' && strchr("-._~!$&'()*+,;=:@/", c) != NULL);
}

const char *
str_path_fault(const char *s, size_t len)
{
	size_t start = 1; /* of the segment */

	if (len == 0 || s[0] != '/')
		return "a path begins with /";
	for (size_t i = 0; i < len; i++)
		if (!is_path_byte(s[i]))
			return "a path has no query, fragment, escape or blank";
	for (size_t i = 1; i <= len; i++) {
		size_t n = i - start;

		if (i < len && s[i] != '/')
			continue;
		if (n == 0 && i < len)
			return "a path has no empty segment (//)";
		if ((n == 1 && s[start] == '.') ||
		    (n == 2 && s[start] == '.' && s[start + 1] == '.'))
			return "a path has no . or .. segment";
		start = i + 1;
	}
	return NULL;
}

enum err
str_to_u64(const char *s, size_t len, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;

	if (len == 0)
		return ERR_PROTO;
	for (size_t i = 0; i < len; i++) {
		unsigned digit = (unsigned char)s[i] - '0';

		if (digit > 9)
			return ERR_PROTO;
		if (value > (UINT64_MAX - digit) / 10)
			return ERR_LIMIT;
		value = value * 10 + digit;
	}
	if (value > max)
		return ERR_LIMIT;
	*ret = value;
	return ERR_OK;
}

bool
str_match(const char *pattern, const char *s)
{
	const char *star = NULL, *retry = NULL;

	/* one level of backtracking is enough for '*': no recursion */
	while (*s != '\0') {
		if (*pattern == '*') {
			star = pattern++;
			retry = s;
		} else if (*pattern == *s) {
			pattern++;
			s++;
		} else if (star != NULL) {
			pattern = star + 1;
			s = ++retry;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

bool
str_list_has(const char *list, size_t len, const char *word)
{
	size_t word_len = strlen(word);
	const char *end = list + len;

	while (list < end) {
		const char *comma = memchr(list, ',', (size_t)(end - list));
		const char *stop = comma == NULL ? end : comma;
		const char *from = list, *to = stop;

		while (from < to && (*from == ' ' || *from == '\t'))
			from++;
		while (to > from && (to[-1] == ' ' || to[-1] == '\t'))
			to--;
		if ((size_t)(to - from) == word_len &&
		    strncasecmp(from, word, word_len) == 0)
			return true;
		list = comma == NULL ? end : comma + 1;
	}
	return false;
}
