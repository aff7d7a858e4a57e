/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/anam/anam_token.h"
#include "broker/signing_key.h"
#include "common/json.h"
#include "common/jwt.h"

#define NOW 1700000000

static int
make_key(void **state)
{
	struct secret *secret =
	    secret_new("0123456789abcdef0123456789abcdef", 32, "test");
	static struct crypt_key *key;
	enum err err = crypt_key_from_secret(secret, &key, NULL);

	if (err == ERR_OK)
		err = signing_key_init(secret, NULL, 0, NULL);
	secret_free(secret);
	*state = key;
	return err == ERR_OK ? 0 : -1;
}

static int
free_key(void **state)
{
	crypt_key_free(*state);
	signing_key_done();
	return 0;
}

static void
makes_what_it_verifies(void **state)
{
	struct anam_token made, read;
	char *text;

	(void)state;
	assert_int_equal(anam_token_make("persona 1", "eve", NOW, 60, &made,
			     &text, NULL),
	    ERR_OK);
	assert_int_equal(made.expires, NOW + 60);
	assert_int_equal(anam_token_verify(text, strlen(text), NOW, &read,
			     NULL),
	    ERR_OK);
	assert_string_equal(read.id, made.id);
	assert_string_equal(read.persona, "persona 1");
	assert_string_equal(read.user, "eve");
	assert_int_equal(read.expires, NOW + 60);
	anam_token_done(&read);
	/* long after its time */
	assert_int_equal(anam_token_verify(text, strlen(text), NOW + 3600,
			     &read, NULL),
	    ERR_UNAUTH);
	anam_token_done(&made);
	free(text);
}

/* As the SDK looks into it: the second part is JSON, of a certain type. */
static void
is_of_the_form_that_the_sdk_reads(void **state)
{
	struct anam_token token;
	uint8_t claims[512];
	json_t *object;
	const char *value;
	char *text, *second;
	size_t len;

	(void)state;
	assert_int_equal(anam_token_make("p", NULL, NOW, 60, &token, &text,
			     NULL),
	    ERR_OK);
	second = strchr(text, '.') + 1;
	assert_int_equal(crypt_unbase64url(second, strcspn(second, "."), claims,
			     sizeof(claims), &len),
	    ERR_OK);
	assert_int_equal(json_parse(claims, len, &object, NULL), ERR_OK);
	assert_int_equal(json_get_string(object, "type", 32, &value), ERR_OK);
	assert_string_equal(value, "ephemeral");
	assert_int_equal(json_get_string(object, "accountId", 32, &value),
	    ERR_OK);
	assert_null(json_object_get(object, "sub"));
	json_decref(object);
	assert_null(token.user);
	anam_token_done(&token);
	free(text);
}

static void
has_an_id_of_its_own(void **state)
{
	struct anam_token a, b;
	char *text;

	(void)state;
	assert_int_equal(anam_token_make("p", NULL, NOW, 60, &a, &text, NULL),
	    ERR_OK);
	free(text);
	assert_int_equal(anam_token_make("p", NULL, NOW, 60, &b, &text, NULL),
	    ERR_OK);
	free(text);
	assert_int_equal(strlen(a.id), 32);
	assert_string_not_equal(a.id, b.id);
	anam_token_done(&a);
	anam_token_done(&b);
}

static void
refuses_other_tokens_of_the_same_key(void **state)
{
	static const char *const claims[] = {
		"{\"aud\":\"openai\",\"jti\":\"1\",\"persona\":\"p\","
		"\"exp\":1700000060}",
		"{\"jti\":\"1\",\"persona\":\"p\",\"exp\":1700000060}",
		"{\"aud\":\"culvert:anam\",\"persona\":\"p\","
		"\"exp\":1700000060}",
		"{\"aud\":\"culvert:anam\",\"jti\":\"1\",\"exp\":1700000060}",
		"{\"aud\":\"culvert:anam\",\"jti\":1,\"persona\":\"p\","
		"\"exp\":1700000060}",
		"{\"aud\":\"culvert:anam\",\"jti\":\"1\",\"persona\":\"p\"}",
	};
	struct anam_token token;

	for (size_t i = 0; i < sizeof(claims) / sizeof(claims[0]); i++) {
		json_t *object;
		char *text;

		assert_int_equal(json_parse(claims[i], strlen(claims[i]),
				     &object, NULL),
		    ERR_OK);
		assert_int_equal(jwt_sign(object, *state, "HS256", "JWT", NULL,
				     &text),
		    ERR_OK);
		assert_int_equal(anam_token_verify(text, strlen(text), NOW,
				     &token, NULL),
		    ERR_UNAUTH);
		json_decref(object);
		free(text);
	}
	assert_int_equal(anam_token_verify("", 0, NOW, &token, NULL),
	    ERR_UNAUTH);
	assert_int_equal(anam_token_verify("a.b.c", 5, NOW, &token, NULL),
	    ERR_UNAUTH);
}

/* Else its session would be nobody's. */
static void
refuses_a_user_whose_name_is_too_long(void **state)
{
	struct anam_token token;
	char user[258], *text = NULL;
	struct diag diag = { "" };

	(void)state;
	memset(user, 'u', sizeof(user));
	user[257] = '\0';
	assert_int_equal(anam_token_make("p", user, NOW, 60, &token, &text,
			     &diag),
	    ERR_DENIED);
	assert_null(text);
	user[256] = '\0';
	assert_int_equal(anam_token_make("p", user, NOW, 60, &token, &text,
			     NULL),
	    ERR_OK);
	anam_token_done(&token);
	assert_int_equal(anam_token_verify(text, strlen(text), NOW, &token,
			     NULL),
	    ERR_OK);
	assert_string_equal(token.user, user);
	anam_token_done(&token);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(makes_what_it_verifies),
		cmocka_unit_test(is_of_the_form_that_the_sdk_reads),
		cmocka_unit_test(has_an_id_of_its_own),
		cmocka_unit_test(refuses_a_user_whose_name_is_too_long),
		cmocka_unit_test(refuses_other_tokens_of_the_same_key),
	};

	return cmocka_run_group_tests(tests, make_key, free_key);
}
