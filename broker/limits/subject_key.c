/* SPDX-License-Identifier: MIT */
#include "broker/limits/subject_key.h"

#include <pthread.h>
#include <string.h>

#include "broker/store/store.h"
#include "common/crypt.h"

#define KEY_BYTES 16

static pthread_once_t once = PTHREAD_ONCE_INIT;
static uint8_t key[KEY_BYTES];

static void
make_key(void)
{
	crypt_random(key, sizeof(key));
}

struct subject_key
subject_key_of(const char *name)
{
	uint8_t text[KEY_BYTES + STORE_SUBJECT_MAX], digest[20];
	size_t len = strnlen(name, STORE_SUBJECT_MAX);
	struct subject_key ret;

	(void)pthread_once(&once, make_key);
	memcpy(text, key, KEY_BYTES);
	memcpy(text + KEY_BYTES, name, len);
	crypt_sha1(text, KEY_BYTES + len, digest);
	memcpy(&ret, digest, sizeof(ret));
	return ret;
}
