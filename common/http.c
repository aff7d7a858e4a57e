/* SPDX-License-Identifier: MIT */
#include "common/http.h"

#include <stdlib.h>
#include <string.h>

#include "common/str.h"

#define RETRY_AFTER_MAX_S 86400

const char *
http_phrase(int status)
{
	static const struct {
		int status;
		const char *phrase;
	} phrases[] = {
		{ 200, "OK" },
		{ 201, "Created" },
		{ 204, "No Content" },
		{ 304, "Not Modified" },
		{ 400, "Bad Request" },
		{ 401, "Unauthorized" },
		{ 402, "Payment Required" },
		{ 403, "Forbidden" },
		{ 404, "Not Found" },
		{ 405, "Method Not Allowed" },
		{ 408, "Request Timeout" },
		{ 409, "Conflict" },
		{ 413, "Content Too Large" },
		{ 415, "Unsupported Media Type" },
		{ 422, "Unprocessable Content" },
		{ 426, "Upgrade Required" },
		{ 429, "Too Many Requests" },
		{ 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" },
		{ 502, "Bad Gateway" },
		{ 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" },
	};

	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "Status";
}

int64_t
http_retry_after_s(const char *text, size_t len)
{
	uint64_t seconds;

	if (text == NULL ||
	    str_to_u64(text, len, RETRY_AFTER_MAX_S, &seconds) != ERR_OK)
		return 0;
	return (int64_t)seconds;
}

json_t *
http_error(const char *code, const char *message)
{
	json_t *body = json_pack("{s:{s:s,s:s}}", "error", "code", code,
	    "message", str_is_utf8(message, strlen(message)) ? message : code);

	if (body == NULL)
		abort(); /* out of memory */
	return body;
}
