/* SPDX-License-Identifier: MIT */
#include "ticket_store.h"

#include <stdlib.h>
#include <unistd.h>

#include "broker/signing_key.h"
#include "broker/store/store_sqlite.h"
#include "common/xalloc.h"

static const char secret_text[] = "0123456789abcdef0123456789abcdef";

static char dir[] = "/tmp/culvert-ticket.XXXXXX", *path;

struct crypt_key *
ticket_store_key(void)
{
	struct secret *secret =
	    secret_new(secret_text, sizeof(secret_text) - 1, "test");
	struct crypt_key *key = NULL;

	if (crypt_key_from_secret(secret, &key, NULL) != ERR_OK)
		abort();
	secret_free(secret);
	return key;
}

int
ticket_store_open(void)
{
	struct secret *secret =
	    secret_new(secret_text, sizeof(secret_text) - 1, "test");
	struct store *store;

	if (mkdtemp(dir) == NULL)
		return -1;
	path = xasprintf("%s/culvert.db", dir);
	if (store_sqlite_open(path, &store, NULL) != ERR_OK ||
	    signing_key_init(secret, NULL, 0, NULL) != ERR_OK)
		return -1;
	secret_free(secret);
	store_set_current(store);
	return 0;
}

int
ticket_store_close(void)
{
	static const char *const ends[] = { "", "-wal", "-shm" };
	struct store *store = store_current();

	store_set_current(NULL);
	store->ops->close(store);
	signing_key_done();
	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		char *file = xasprintf("%s%s", path, ends[i]);

		(void)unlink(file);
		free(file);
	}
	free(path);
	return rmdir(dir);
}
