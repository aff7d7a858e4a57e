/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <semaphore.h>
#include <unistd.h>

#include "broker/http/http_client.h"
#include "broker/users/jwks.h"
#include "broker/users/user_keys.h"
#include "clock_double.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/log.h"
#include "common/xalloc.h"
#include "test_keys.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOW	 1800000000

/* ---- an issuer that stands in for the real one ---- */

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	const char *body; /* NULL: nobody answers */
	int status;
	unsigned asked, running, most;
	bool held; /* the answer waits for release() */
} issuer = { .lock = PTHREAD_MUTEX_INITIALIZER,
	.changed = PTHREAD_COND_INITIALIZER };

enum err
http_client_send(const struct http_client_request *request,
    struct http_client_answer *ret, struct diag *diag)
{
	enum err err = ERR_OK;

	assert_string_equal(request->method, "GET");
	assert_string_equal(request->url, "https://i.example/keys");
	(void)pthread_mutex_lock(&issuer.lock);
	issuer.asked++;
	if (++issuer.running > issuer.most)
		issuer.most = issuer.running;
	(void)pthread_cond_broadcast(&issuer.changed);
	while (issuer.held)
		(void)pthread_cond_wait(&issuer.changed, &issuer.lock);
	issuer.running--;
	if (issuer.body == NULL) {
		diag_set(diag, "nobody is there");
		err = ERR_UPSTREAM;
	} else {
		*ret = (struct http_client_answer){
			.status = issuer.status,
			.body = xstrdup(issuer.body),
			.body_len = strlen(issuer.body),
		};
	}
	(void)pthread_mutex_unlock(&issuer.lock);
	return err;
}

void
http_client_answer_done(struct http_client_answer *answer)
{
	free(answer->body);
}

static void
answer_with(int status, const char *body)
{
	(void)pthread_mutex_lock(&issuer.lock);
	issuer.status = status;
	issuer.body = body;
	(void)pthread_mutex_unlock(&issuer.lock);
}

static void
hold(bool held)
{
	(void)pthread_mutex_lock(&issuer.lock);
	issuer.held = held;
	(void)pthread_cond_broadcast(&issuer.changed);
	(void)pthread_mutex_unlock(&issuer.lock);
}

static unsigned
times_asked(void)
{
	unsigned asked;

	(void)pthread_mutex_lock(&issuer.lock);
	asked = issuer.asked;
	(void)pthread_mutex_unlock(&issuer.lock);
	return asked;
}

static void
wait_until_asked(unsigned times)
{
	(void)pthread_mutex_lock(&issuer.lock);
	while (issuer.asked < times)
		(void)pthread_cond_wait(&issuer.changed, &issuer.lock);
	(void)pthread_mutex_unlock(&issuer.lock);
}

/* ---- keys and tokens ---- */

#define SECRET "0123456789 the secret of the users"

static struct crypt_key *secret_key, *rsa_key, *ec_key[2];
static char *rsa_pem;
static char *one_set, *both_sets; /* of ec_key[0], of both */

static char *
member_of(EVP_PKEY *pkey, const char *name)
{
	BIGNUM *number = NULL;
	uint8_t raw[32];
	char *text;

	(void)EVP_PKEY_get_bn_param(pkey, name, &number);
	(void)BN_bn2binpad(number, raw, sizeof(raw));
	text = crypt_base64url(raw, sizeof(raw));
	BN_free(number);
	return text;
}

/* Make an EC key; its JWK. */
static char *
make_ec(const char *kid, struct crypt_key **ret)
{
	EVP_PKEY *pkey = test_key("EC", "P-256", 0);
	char *pem = test_pem(pkey, true, NULL);
	char *x = member_of(pkey, "qx"), *y = member_of(pkey, "qy");
	char *jwk = xasprintf("{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"%s\","
			      "\"y\":\"%s\",\"kid\":\"%s\"}",
	    x, y, kid);

	assert_int_equal(crypt_key_from_pem(pem, strlen(pem), ret, NULL),
	    ERR_OK);
	free(x);
	free(y);
	free(pem);
	EVP_PKEY_free(pkey);
	return jwk;
}

static char *
base64url(const char *text)
{
	return crypt_base64url(text, strlen(text));
}

/* A token of any header and claims, signed as alg says, or not at all. */
static char *
forge(const char *header, const char *claims, const struct crypt_key *key,
    const char *alg)
{
	char *head = base64url(header), *body = base64url(claims);
	char *input = xasprintf("%s.%s", head, body), *token, *text;
	uint8_t *raw;
	size_t len;

	if (key == NULL) {
		token = xasprintf("%s.AAAA", input);
	} else {
		assert_int_equal(crypt_sign(key, alg, input, strlen(input),
				     &raw, &len),
		    ERR_OK);
		text = crypt_base64url(raw, len);
		token = xasprintf("%s.%s", input, text);
		free(text);
		free(raw);
	}
	free(input);
	free(head);
	free(body);
	return token;
}

static enum err
verify(const struct config_users *users, const char *token, struct diag *diag)
{
	json_t *claims = NULL;
	enum err err =
	    user_keys_verify(users, token, strlen(token), NOW, &claims, diag);

	assert_int_equal(err == ERR_OK, claims != NULL);
	json_decref(claims);
	return err;
}

/* Of a token by one of ec_key. */
static enum err
verify_ec(const struct config_users *users, int key, const char *kid)
{
	char *header = xasprintf("{\"alg\":\"ES256\",\"kid\":\"%s\"}", kid);
	char *token = forge(header, "{\"sub\":\"ann\",\"exp\":1800000060}",
	    ec_key[key], "ES256");
	struct diag diag = { "" };
	enum err err = verify(users, token, &diag);

	assert_int_equal(err == ERR_OK, diag.text[0] == '\0');
	free(token);
	free(header);
	return err;
}

static char keys_url[] = "https://i.example/keys";
static const struct config_users by_url = {
	.jwks_url = keys_url,
	.jwks_refresh_s = 600,
	.leeway_s = 60,
};

/* ---- a token alone ---- */

#define CLAIMS "{\"sub\":\"ann\",\"exp\":1800000060}"
#define HS     "{\"alg\":\"HS256\"}"

static void
refuses_tokens_that_are_not_good(void **state)
{
	static const struct {
		const char *header, *claims, *says;
	} cases[] = {
		/* the algorithm, which is the key's to say */
		{ "{\"alg\":\"none\"}", CLAIMS, "algorithm" },
		{ "{\"alg\":\"None\"}", CLAIMS, "algorithm" },
		{ "{\"alg\":\"nOnE\"}", CLAIMS, "algorithm" },
		{ "{\"alg\":\"\"}", CLAIMS, "algorithm" },
		{ "{\"alg\":\"hs256\"}", CLAIMS, "algorithm" },
		{ "{\"alg\":\"HS512\"}", CLAIMS, "signature" },
		{ "{\"alg\":\"RS256\"}", CLAIMS, "algorithm" },
		{ "{\"alg\":null}", CLAIMS, "algorithm" },
		{ "{\"alg\":[\"HS256\"]}", CLAIMS, "algorithm" },
		{ "{}", CLAIMS, "algorithm" },
		/* the header */
		{ "{\"alg\":\"HS256\",\"alg\":\"none\"}", CLAIMS, "no" },
		{ "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", CLAIMS,
		    "critical" },
		{ "{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}",
		    CLAIMS, "critical" },
		{ "{\"alg\":\"HS256\",\"b64\":false}", CLAIMS, "critical" },
		{ "{\"alg\":\"HS256\",\"typ\":\"ticket+jwt\"}", CLAIMS,
		    "type" },
		{ "{\"alg\":\"HS256\",\"typ\":\"logout+jwt\"}", CLAIMS,
		    "type" },
		{ "{\"alg\":\"HS256\",\"typ\":\"JWE\"}", CLAIMS, "type" },
		{ "{\"alg\":\"HS256\",\"typ\":1}", CLAIMS, "type" },
		{ "{\"alg\":\"HS256\",\"kid\":1}", CLAIMS, "kid" },
		{ "[]", CLAIMS, "JSON Web Token" },
		{ "{\"alg\":\"HS256\"} ", "", "JSON Web Token" },
		/* the times */
		{ HS, "{\"sub\":\"ann\"}", "no exp" },
		{ HS, "{\"sub\":\"ann\",\"exp\":\"1800000060\"}",
		    "not a time" },
		{ HS, "{\"sub\":\"ann\",\"exp\":null}", "not a time" },
		{ HS, "{\"sub\":\"ann\",\"exp\":true}", "not a time" },
		{ HS, "{\"sub\":\"ann\",\"exp\":9223372036854775808}",
		    "JSON object" },
		{ HS, "{\"sub\":\"ann\",\"exp\":9223372036854775807}",
		    "not a time" },
		{ HS, "{\"sub\":\"ann\",\"exp\":1e300}", "not a time" },
		{ HS, "{\"sub\":\"ann\",\"exp\":1e400}", "JSON object" },
		{ HS, "{\"sub\":\"ann\",\"exp\":-1}", "not a time" },
		{ HS, "{\"sub\":\"ann\",\"exp\":1799999940}", "expired" },
		{ HS, "{\"exp\":1800000060,\"nbf\":1800000061}",
		    "not valid yet" },
		{ HS, "{\"exp\":1800000060,\"nbf\":\"1\"}", "not a time" },
		{ HS, "{\"exp\":1800000060,\"iat\":\"1\"}", "not a time" },
		{ HS, "{\"exp\":1800000060,\"iat\":1800000061}",
		    "in the future" },
		/* the claims */
		{ HS, "[]", "JSON object" },
		{ HS, "{\"exp\":1800000060,\"exp\":1900000000}",
		    "JSON object" },
		{ HS, "\xef\xbb\xbf{\"exp\":1800000060}", "JSON object" },
	};
	const struct config_users users = { .key = secret_key, .leeway_s = 60 };

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		const char *alg = strstr(cases[i].header, "HS512") == NULL
		    ? "HS256"
		    : "HS384"; /* signed, but not so */
		char *token =
		    forge(cases[i].header, cases[i].claims, secret_key, alg);
		struct diag diag = { "" };
		enum err err = verify(&users, token, &diag);

		if (err != ERR_UNAUTH ||
		    strstr(diag.text, cases[i].says) == NULL)
			fail_msg("%s.%s: %d %s", cases[i].header,
			    cases[i].claims, err, diag.text);
		free(token);
	}
}

static void
takes_tokens_that_are_good(void **state)
{
	static const char *const headers[] = { HS, "{\"alg\":\"HS512\"}",
		"{\"alg\":\"HS256\",\"typ\":\"JWT\",\"kid\":\"any\"}",
		"{\"alg\":\"HS256\",\"typ\":\"at+jwt\"}",
		"{\"alg\":\"HS256\",\"typ\":\"application/at+JWT\"}" };
	static const char *const claims[] = { CLAIMS,
		"{\"exp\":1799999941}", /* within the leeway */
		"{\"exp\":1800000060.5,\"nbf\":1800000060}",
		"{\"exp\":1800000060,\"iat\":1800000060}" };
	const struct config_users users = { .key = secret_key, .leeway_s = 60 };

	(void)state;
	for (size_t i = 0; i < COUNT(headers); i++)
		for (size_t k = 0; k < COUNT(claims); k++) {
			char *token = forge(headers[i], claims[k], secret_key,
			    i == 1 ? "HS512" : "HS256");
			struct diag diag = { "" };

			if (verify(&users, token, &diag) != ERR_OK)
				fail_msg("%s.%s: %s", headers[i], claims[k],
				    diag.text);
			free(token);
		}
}

static void
asks_for_issuer_audience_and_algorithm_where_they_are_configured(void **state)
{
	static const struct {
		const char *claims;
		enum err err;
	} cases[] = {
		{ "{\"exp\":1800000060,\"iss\":\"us\",\"aud\":\"chat\"}",
		    ERR_OK },
		{ "{\"exp\":1800000060,\"iss\":\"us\",\"aud\":[\"x\","
		  "\"chat\"]}",
		    ERR_OK },
		{ "{\"exp\":1800000060,\"aud\":\"chat\"}", ERR_UNAUTH },
		{ "{\"exp\":1800000060,\"iss\":\"US\",\"aud\":\"chat\"}",
		    ERR_UNAUTH },
		{ "{\"exp\":1800000060,\"iss\":[\"us\"],\"aud\":\"chat\"}",
		    ERR_UNAUTH },
		{ "{\"exp\":1800000060,\"iss\":\"us\"}", ERR_UNAUTH },
		{ "{\"exp\":1800000060,\"iss\":\"us\",\"aud\":\"chats\"}",
		    ERR_UNAUTH },
		{ "{\"exp\":1800000060,\"iss\":\"us\",\"aud\":[]}",
		    ERR_UNAUTH },
		{ "{\"exp\":1800000060,\"iss\":\"us\",\"aud\":{\"chat\":1}}",
		    ERR_UNAUTH },
	};
	char alg_text[] = "HS384", us[] = "us", chat[] = "chat";
	char *alg = alg_text;
	struct config_users users = { .key = secret_key,
		.issuer = us,
		.audience = chat };
	char *token;

	(void)state;
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct diag diag = { "" };

		token = forge(HS, cases[i].claims, secret_key, "HS256");
		if (verify(&users, token, &diag) != cases[i].err)
			fail_msg("%s: %s", cases[i].claims, diag.text);
		free(token);
	}
	users.algorithms = (struct config_strings){ &alg, 1 };
	token = forge(HS, cases[0].claims, secret_key, "HS256");
	assert_int_equal(verify(&users, token, NULL), ERR_UNAUTH);
	free(token);
	token =
	    forge("{\"alg\":\"HS384\"}", cases[0].claims, secret_key, "HS384");
	assert_int_equal(verify(&users, token, NULL), ERR_OK);
	free(token);
}

/* Whoever has the public key could sign, if it were taken for a secret. */
/* What the log says of one token; standard error is a pipe meanwhile. */
static const char *
logged_for(const struct config_users *users, const char *token)
{
	static char text[4096];
	int saved = dup(STDERR_FILENO), fds[2];
	struct diag diag = { "" };
	ssize_t n;

	log_init("test", LOG_LEVEL_INFO);
	assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
	assert_int_not_equal(dup2(fds[1], STDERR_FILENO), -1);
	user_keys_done(); /* so that the last line is not a moment ago */
	assert_int_equal(verify(users, token, &diag), ERR_UNAUTH);
	assert_int_equal(verify(users, token, &diag), ERR_UNAUTH);
	(void)dup2(saved, STDERR_FILENO);
	n = read(fds[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	(void)close(saved);
	(void)close(fds[0]);
	(void)close(fds[1]);
	/* the client is told of none of it */
	assert_null(strstr(diag.text, "256"));
	return strstr(text, "users.refused ");
}

static void
tells_the_log_what_was_expected_of_a_token(void **state)
{
	static const struct {
		bool by_url;
		const char *header, *line;
	} cases[] = {
		{ false, "{\"alg\":\"RS256\",\"kid\":\"k\"}",
		    "users.refused reason=\"the token's algorithm is not "
		    "accepted\" alg=RS256 kid=k accepts=HS256,HS384,HS512 "
		    "more=0\n" },
		{ true, "{\"alg\":\"HS256\"}",
		    "users.refused reason=\"the issuer has no such key\" "
		    "alg=HS256 kid=- accepts=ES256 kids=a,b more=0\n" },
		{ true, "{\"alg\":\"ES256\",\"kid\":\"c\"}",
		    "users.refused reason=\"the issuer has no such key\" "
		    "alg=ES256 kid=c accepts=ES256 kids=a,b more=0\n" },
		{ false,
		    "{\"alg\":\"0123456789012345678901234\","
		    "\"kid\":\"a\\nb c=d\"}",
		    "users.refused reason=\"the token's algorithm is not "
		    "accepted\" alg=01234567890123456789... "
		    "kid=a\\x0ab\\x20c\\x3dd "
		    "accepts=HS256,HS384,HS512 more=0\n" },
	};
	const struct config_users by_secret = { .key = secret_key };

	(void)state;
	answer_with(200, both_sets);
	for (size_t i = 0; i < COUNT(cases); i++) {
		char *token =
		    forge(cases[i].header, CLAIMS, secret_key, "HS256");
		const char *line =
		    logged_for(cases[i].by_url ? &by_url : &by_secret, token);

		assert_non_null(line);
		assert_string_equal(line, cases[i].line);
		free(token);
	}
}

static void
takes_no_public_key_for_a_secret(void **state)
{
	const struct config_users users = { .key = rsa_key };
	char *head = base64url(HS), *body = base64url(CLAIMS);
	char *input = xasprintf("%s.%s", head, body), *mac, *token;
	uint8_t raw[EVP_MAX_MD_SIZE];
	struct diag diag = { "" };
	unsigned len;

	(void)state;
	assert_non_null(HMAC(EVP_sha256(), rsa_pem, (int)strlen(rsa_pem),
	    (const uint8_t *)input, strlen(input), raw, &len));
	mac = crypt_base64url(raw, len);
	token = xasprintf("%s.%s", input, mac);
	assert_int_equal(verify(&users, token, &diag), ERR_UNAUTH);
	assert_non_null(strstr(diag.text, "algorithm"));
	free(token);
	free(mac);
	free(input);
	free(head);
	free(body);
}

static void
refuses_what_is_no_token(void **state)
{
	static const char *const texts[] = { "", ".", "..", "a.b", "a.b.c.d",
		"a.b.c", "e30.e30.", "e30..AAAA", "e30=.e30=.AAAA",
		"eyJhbGciOiJIUzI1NiJ9.e30.AAAA ", "eyJhbGciOiJIUzI1NiJ9\n",
		"\xff.\xff.\xff" };
	const struct config_users users = { .key = secret_key };
	const struct config_users none = { .remote_user = true };
	char *text = xcalloc(1, JWT_MAX_BYTES + 2);

	(void)state;
	for (size_t i = 0; i < COUNT(texts); i++) {
		struct diag diag = { "" };

		if (verify(&users, texts[i], &diag) != ERR_UNAUTH ||
		    diag.text[0] == '\0')
			fail_msg("%s", texts[i]);
	}
	memset(text, 'a', JWT_MAX_BYTES + 1);
	assert_int_equal(verify(&users, text, NULL), ERR_UNAUTH);
	free(text);
	text = forge(HS, CLAIMS, secret_key, "HS256");
	assert_int_equal(verify(NULL, text, NULL), ERR_UNAUTH);
	assert_int_equal(verify(&none, text, NULL), ERR_UNAUTH);
	free(text);
}

/* ---- a set in a file ---- */

static void
write_text(const char *path, const char *text)
{
	char *other = xasprintf("%s.new", path);
	int fd = open(other, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(close(fd), 0);
	assert_int_equal(rename(other, path), 0);
	free(other);
}

static void
reads_a_file_anew_when_it_has_changed(void **state)
{
	char path[] = "/tmp/culvert-test.XXXXXX";
	const struct config_users users = { .jwks_file = path };
	int fd = mkstemp(path);

	(void)state;
	assert_int_equal(close(fd), 0);
	assert_int_equal(verify_ec(&users, 0, "a"), ERR_UNAVAIL); /* empty */
	write_text(path, one_set);
	assert_int_equal(verify_ec(&users, 0, "a"), ERR_OK);
	assert_int_equal(verify_ec(&users, 1, "b"), ERR_UNAUTH);
	write_text(path, both_sets);
	assert_int_equal(verify_ec(&users, 1, "b"), ERR_OK);
	/* what is there now is not good: what was there before is */
	write_text(path, "{\"keys\":");
	assert_int_equal(verify_ec(&users, 1, "b"), ERR_OK);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(verify_ec(&users, 0, "a"), ERR_OK);
	write_text(path, one_set);
	assert_int_equal(verify_ec(&users, 1, "b"), ERR_UNAUTH);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(times_asked(), 0);
}

/* ---- a set behind a URL ---- */

static void
fetches_a_set_once_and_keeps_it(void **state)
{
	(void)state;
	answer_with(200, one_set);
	for (int i = 0; i < 100; i++)
		assert_int_equal(verify_ec(&by_url, 0, "a"), ERR_OK);
	assert_int_equal(times_asked(), 1);
	/* of the same name, and another's */
	assert_int_equal(verify_ec(&by_url, 1, "a"), ERR_UNAUTH);
	assert_int_equal(times_asked(), 1);
}

static void
fetches_once_in_30_s_whatever_tokens_name(void **state)
{
	(void)state;
	answer_with(200, one_set);
	assert_int_equal(verify_ec(&by_url, 0, "a"), ERR_OK);
	answer_with(200, both_sets);
	for (int i = 0; i < 100; i++)
		assert_int_equal(verify_ec(&by_url, 1, "b"), ERR_UNAUTH);
	assert_int_equal(times_asked(), 1);
	clock_skipped_ms += 30000;
	assert_int_equal(verify_ec(&by_url, 1, "b"), ERR_OK);
	for (int i = 0; i < 100; i++)
		assert_int_equal(verify_ec(&by_url, 1, "c"), ERR_UNAUTH);
	assert_int_equal(times_asked(), 2);
}

static enum err
verify_issued(int64_t issued, const char *header)
{
	char *claims =
	    xasprintf("{\"sub\":\"ann\",\"exp\":1800000060,\"iat\":%lld}",
		(long long)issued);
	char *token = forge(header, claims, ec_key[1], "ES256");
	struct diag diag = { "" };
	enum err err = verify(&by_url, token, &diag);

	free(token);
	free(claims);
	return err;
}

static void
is_unavailable_to_a_token_that_is_newer_than_the_set(void **state)
{
	static const char header[] = "{\"alg\":\"ES256\",\"kid\":\"b\"}";

	(void)state;
	answer_with(200, one_set);
	assert_int_equal(verify_ec(&by_url, 0, "a"), ERR_OK);
	answer_with(200, both_sets);
	for (int i = 0; i < 100; i++)
		assert_int_equal(verify_issued(NOW + 1, header), ERR_UNAVAIL);
	/* as old as the set; of a time that no token can be of */
	assert_int_equal(verify_issued(NOW, header), ERR_UNAUTH);
	assert_int_equal(verify_issued(NOW + 61, header), ERR_UNAUTH);
	assert_int_equal(times_asked(), 1);
	clock_skipped_ms += 30000;
	assert_int_equal(verify_issued(NOW + 1, header), ERR_OK);
	assert_int_equal(times_asked(), 2);
}

/* A set of one key; the caller frees it. */
static char *
set_without_names(size_t i)
{
	json_t *set = json_loads(both_sets, 0, NULL);
	json_t *keys = json_object_get(set, "keys");
	char *text;

	json_array_remove(keys, 1 - i);
	json_object_del(json_array_get(keys, 0), "kid");
	text = json_dumps(set, 0);
	json_decref(set);
	return text;
}

static void
fetches_a_set_without_names_anew_for_what_is_not_good(void **state)
{
	static const char header[] = "{\"alg\":\"ES256\"}";
	char *old = set_without_names(0), *new = set_without_names(1);

	(void)state;
	answer_with(200, old);
	for (int i = 0; i < 100; i++)
		assert_int_equal(verify_issued(NOW, header), ERR_UNAUTH);
	assert_int_equal(times_asked(), 1);
	answer_with(200, new);
	clock_skipped_ms += 30000;
	assert_int_equal(verify_issued(NOW, header), ERR_OK);
	answer_with(200, old);
	for (int i = 0; i < 100; i++)
		assert_int_equal(verify_issued(NOW, header), ERR_OK);
	assert_int_equal(times_asked(), 2);
	free(old);
	free(new);
}

static void
goes_on_with_what_it_has_while_the_issuer_is_away(void **state)
{
	static const struct {
		int status;
		const char *body;
	} faults[] = {
		{ 0, NULL },
		{ 200, "" },
		{ 200, "{\"keys\":[]}" },
		{ 200, "<html>" },
		{ 302, "{}" },
		{ 404, "{}" },
		{ 500, "" },
	};

	(void)state;
	answer_with(200, one_set);
	assert_int_equal(verify_ec(&by_url, 0, "a"), ERR_OK);
	for (unsigned i = 0; i < COUNT(faults); i++) {
		answer_with(faults[i].status, faults[i].body);
		clock_skipped_ms += 3600000;
		/* nobody waits for it */
		hold(true);
		for (int k = 0; k < 10; k++)
			assert_int_equal(verify_ec(&by_url, 0, "a"), ERR_OK);
		wait_until_asked(i + 2);
		hold(false);
		/* it may be in the set that cannot be had */
		assert_int_equal(verify_ec(&by_url, 1, "b"), ERR_UNAVAIL);
		assert_int_equal(verify_ec(&by_url, 0, "a"), ERR_OK);
		assert_int_equal(times_asked(), i + 2);
	}
	answer_with(200, both_sets);
	clock_skipped_ms += 30000;
	assert_int_equal(verify_ec(&by_url, 1, "b"), ERR_OK);
}

static void
is_unavailable_while_it_never_had_a_set_and_heals(void **state)
{
	(void)state;
	answer_with(0, NULL);
	for (int i = 0; i < 10; i++)
		assert_int_equal(verify_ec(&by_url, 0, "a"), ERR_UNAVAIL);
	assert_int_equal(times_asked(), 1);
	answer_with(200, one_set);
	clock_skipped_ms += 5000;
	assert_int_equal(verify_ec(&by_url, 0, "a"), ERR_OK);
	assert_int_equal(times_asked(), 2);
}

#define VERIFIERS 6
#define WAITERS	  4

/* Each posts when it has its answer. */
static sem_t answered;

static void *
verify_in_thread(void *arg)
{
	*(enum err *)arg = verify_ec(&by_url, 0, "a");
	(void)sem_post(&answered);
	return NULL;
}

/* Some wait; the others' threads are wanted for those who need no fetch. */
static void
fetches_one_at_a_time_for_some_that_wait(void **state)
{
	pthread_t threads[VERIFIERS];
	enum err errs[VERIFIERS];
	int waited = 0;

	(void)state;
	answer_with(200, one_set);
	hold(true);
	(void)sem_init(&answered, 0, 0);
	for (size_t i = 0; i < VERIFIERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
				     verify_in_thread, &errs[i]),
		    0);
	for (size_t i = WAITERS; i < VERIFIERS; i++)
		(void)sem_wait(&answered);
	wait_until_asked(1);
	hold(false);
	for (size_t i = 0; i < VERIFIERS; i++) {
		assert_int_equal(pthread_join(threads[i], NULL), 0);
		waited += errs[i] == ERR_OK;
		if (errs[i] != ERR_OK)
			assert_int_equal(errs[i], ERR_UNAVAIL);
	}
	assert_int_equal(waited, WAITERS);
	assert_int_equal(times_asked(), 1);
	assert_int_equal(issuer.most, 1);
	(void)sem_destroy(&answered);
}

/* ---- the tests ---- */

static int
setup(void **state)
{
	(void)state;
	issuer.asked = issuer.most = 0;
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	user_keys_done();
	return 0;
}

static int
init(void **state)
{
	struct secret *secret = secret_new(SECRET, strlen(SECRET), "test");
	EVP_PKEY *pkey = test_key("RSA", NULL, 2048);
	char *jwks[2];

	(void)state;
	clock_stopped_at = NOW;
	if (crypt_key_from_secret(secret, &secret_key, NULL) != ERR_OK)
		return -1;
	secret_free(secret);
	rsa_pem = test_pem(pkey, false, NULL);
	EVP_PKEY_free(pkey);
	if (crypt_key_from_pem(rsa_pem, strlen(rsa_pem), &rsa_key, NULL) !=
	    ERR_OK)
		return -1;
	jwks[0] = make_ec("a", &ec_key[0]);
	jwks[1] = make_ec("b", &ec_key[1]);
	one_set = xasprintf("{\"keys\":[%s]}", jwks[0]);
	both_sets = xasprintf("{\"keys\":[%s,%s]}", jwks[0], jwks[1]);
	free(jwks[0]);
	free(jwks[1]);
	return 0;
}

static int
done(void **state)
{
	(void)state;
	crypt_key_free(secret_key);
	crypt_key_free(rsa_key);
	crypt_key_free(ec_key[0]);
	crypt_key_free(ec_key[1]);
	free(rsa_pem);
	free(one_set);
	free(both_sets);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(refuses_tokens_that_are_not_good),
		TEST(takes_tokens_that_are_good),
		TEST(
		    asks_for_issuer_audience_and_algorithm_where_they_are_configured),
		TEST(tells_the_log_what_was_expected_of_a_token),
		TEST(takes_no_public_key_for_a_secret),
		TEST(refuses_what_is_no_token),
		TEST(reads_a_file_anew_when_it_has_changed),
		TEST(fetches_a_set_once_and_keeps_it),
		TEST(fetches_once_in_30_s_whatever_tokens_name),
		TEST(is_unavailable_to_a_token_that_is_newer_than_the_set),
		TEST(fetches_a_set_without_names_anew_for_what_is_not_good),
		TEST(goes_on_with_what_it_has_while_the_issuer_is_away),
		TEST(is_unavailable_while_it_never_had_a_set_and_heals),
		TEST(fetches_one_at_a_time_for_some_that_wait),
	};

	return cmocka_run_group_tests(tests, init, done);
}
