/* SPDX-License-Identifier: MIT */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/http/request_parse.h"
#include "broker/signing_key.h"
#include "broker/store/store.h"
#include "broker/tickets/ticket.h"
#include "common/xalloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
	if (!condition)
		abort();
}

/* It knows no ticket, but has to be asked for text, whatever a claim is. */
static enum err
get_ticket(struct store *store, const char *id, int64_t now,
    struct store_ticket *ret, struct diag *diag)
{
	(void)store;
	(void)now;
	(void)ret;
	require(id != NULL);
	diag_set(diag, "there is none");
	return ERR_NOTFOUND;
}

static void
set_up(void)
{
	static const char key[] = "a key that the target alone signs with";
	static const struct store_ops ops = { .get_ticket = get_ticket };
	static struct store store = { .ops = &ops };
	struct secret *secret = secret_new(key, sizeof(key) - 1, "test");

	require(signing_key_init(secret, NULL, 0, NULL) == ERR_OK);
	store_set_current(&store);
	secret_free(secret);
}

static void
check(const char *text, size_t len)
{
	const struct ticket_use use = {
		.route = "a",
		.address = "192.0.2.1",
		.now = 1000,
	};
	struct store_ticket ticket;
	struct diag diag = { "" };

	if (!ticket_has_form(text, len))
		return;
	require(ticket_check(text, len, &use, &ticket, &diag) == ERR_UNAUTH);
	require(diag.text[0] != '\0');
}

/*
 * A credential as it comes, alone and behind "Bearer"; and where it is a JSON
 * object, as the claims of one that we have signed.
 */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = xstrndup((const char *)data, size), *token, *ticket;
	const char *bearer = request_parse_bearer(text);
	json_t *claims = json_loadb((const char *)data, size, 0, NULL);

	if (!signing_key_is_there())
		set_up();
	check((const char *)data, size);
	if (bearer != NULL)
		check(bearer, strlen(bearer));
	if (json_is_object(claims) &&
	    signing_key_sign(claims, "ticket+jwt", &token, NULL) == ERR_OK) {
		ticket = xasprintf("ek_%s", token);
		check(ticket, strlen(ticket));
		free(ticket);
		free(token);
	}
	json_decref(claims);
	free(text);
	return 0;
}
