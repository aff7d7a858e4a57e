/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "broker/users/jwks.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
require(int condition)
{
	if (!condition)
		abort();
}

/* Whatever key a set has, it is for public algorithms, and verifies nothing. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const algs[] = { "RS256", "PS512", "ES256", "ES384",
		"ES512", "EdDSA", "HS256", "none" };
	static const char *const kids[] = { NULL, "a", "" };
	static const uint8_t signature[64] = { 1 };
	struct diag diag = { "" };
	struct jwks *jwks;

	if (jwks_parse((const char *)data, size, &jwks, &diag) != ERR_OK) {
		require(diag.text[0] != '\0');
		return 0;
	}
	for (size_t i = 0; i < sizeof(algs) / sizeof(algs[0]); i++)
		for (size_t k = 0; k < 3; k++) {
			const struct crypt_key *key;

			if (jwks_find(jwks, kids[k], algs[i], &key, &diag) !=
			    ERR_OK)
				continue;
			require(i < 6 && crypt_key_allows(key, algs[i]));
			require(crypt_verify(key, algs[i], "text", 4, signature,
				    sizeof(signature)) == ERR_UNAUTH);
		}
	jwks_free(jwks);
	return 0;
}
