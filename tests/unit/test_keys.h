/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_TEST_KEYS_H
#define TESTS_UNIT_TEST_KEYS_H

/* Keys for the tests, made as they run: none lies in the repository. */

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

/* "RSA", "EC" or "ED25519"; the curve or the bits of RSA. */
static inline EVP_PKEY *
test_key(const char *type, const char *curve, size_t bits)
{
	EVP_PKEY *pkey;

	if (strcmp(type, "EC") == 0)
		pkey = EVP_PKEY_Q_keygen(NULL, NULL, type, curve);
	else if (strcmp(type, "RSA") == 0)
		pkey = EVP_PKEY_Q_keygen(NULL, NULL, type, bits);
	else
		pkey = EVP_PKEY_Q_keygen(NULL, NULL, type);
	if (pkey == NULL)
		abort();
	return pkey;
}

/* PEM text of the key; free() it. */
static inline char *
test_pem(EVP_PKEY *pkey, bool private, const char *password)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data, *text;
	long len;

	if (private)
		(void)PEM_write_bio_PKCS8PrivateKey(bio, pkey,
		    password != NULL ? EVP_aes_128_cbc() : NULL, password,
		    password != NULL ? (int)strlen(password) : 0, NULL, NULL);
	else
		(void)PEM_write_bio_PUBKEY(bio, pkey);
	len = BIO_get_mem_data(bio, &data);
	text = strndup(data, (size_t)len);
	BIO_free(bio);
	if (text == NULL || *text == '\0')
		abort();
	return text;
}

#endif
