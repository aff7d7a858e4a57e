/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/chat/caller.h"
#include "broker/signing_key.h"
#include "common/json.h"
#include "common/xalloc.h"
#include "tests/unit/request_double.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/*
 * Lines: the headers Authorization, x-anon-id and Cookie, the address, and
 * Socket.IO's auth.  Nobody becomes a user without a key, and who is taken for
 * a visitor has an id that may stand anywhere.
 */
enum {
	AUTHORIZATION,
	ANON_ID,
	COOKIE,
	ADDRESS,
	AUTH,
	LINES,
};

static struct config *config;

static void
require(int condition)
{
	if (!condition)
		abort();
}

static void
check(enum err err, struct caller *caller, const struct diag *diag)
{
	if (err != ERR_OK) {
		/* the last of what looks like a ticket: there is no store */
		require(err == ERR_UNAUTH || err == ERR_PROTO ||
		    err == ERR_UNAVAIL);
		require(diag->text[0] != '\0');
		return;
	}
	require(!caller->is_user);
	require(strlen(caller->id) >= 8 && strlen(caller->id) <= 64);
	require(strpbrk(caller->id, "\"\\<>&;:/ \n") == NULL);
	require(strlen(caller->owner) == strlen(caller->id) + 2);
	require(strncmp(caller->allowance_address, "n:", 2) == 0);
	caller_done(caller);
}

static void
setup(void)
{
	static const char text[] =
	    "store { path = \"/x/y.db\" }\n"
	    "chat { url = \"http://localhost\" models = {m}\n"
	    "balance = false }\n"
	    "users { secret = \"env:K\" }\n";
	static const char key[] = "0123456789 a key that nobody knows";
	struct secret *secret = secret_new(key, sizeof(key) - 1, "test");

	require(setenv("K", "0123456789 another that nobody knows", 1) == 0);
	require(config_parse("c", text, strlen(text), &config, NULL) == ERR_OK);
	require(signing_key_init(secret, NULL, 0, NULL) == ERR_OK);
	secret_free(secret);
}

static const char *
or_null(const char *text)
{
	return *text == '\0' ? NULL : text;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *lines[LINES];
	struct request req = { .method = "GET", .scheme = "http" };
	struct caller caller;
	struct diag diag = { "" };
	json_t *auth = NULL;
	char *copy, *p;

	if (config == NULL)
		setup();
	copy = p = xstrndup((const char *)data, size);
	for (int i = 0; i < LINES; i++) {
		lines[i] = p;
		p += strcspn(p, "\n");
		if (*p == '\n')
			*p++ = '\0';
	}
	req.config = config;
	req.authorization = or_null(lines[AUTHORIZATION]);
	req.anon_id = or_null(lines[ANON_ID]);
	req.cookie = or_null(lines[COOKIE]);
	req.client = lines[ADDRESS];
	check(caller_of_request(&req, false, &caller, &diag), &caller, &diag);
	diag.text[0] = '\0';
	check(caller_of_request(&req, true, &caller, &diag), &caller, &diag);
	diag.text[0] = '\0';
	if (json_parse(lines[AUTH], strlen(lines[AUTH]), &auth, NULL) == ERR_OK)
		check(caller_of_auth(config, auth, lines[ADDRESS], &caller,
			  &diag),
		    &caller, &diag);
	json_decref(auth);
	free(copy);
	return 0;
}
