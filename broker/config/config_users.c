/* SPDX-License-Identifier: MIT */
#include "broker/config/config_users.h"

#include <stdlib.h>
#include <string.h>

#include "broker/config/config_value.h"
#include "broker/config/url.h"
#include "common/crypt.h"
#include "common/secret.h"
#include "common/str.h"
#include "common/xalloc.h"

#define PUBLIC_KEY_BYTES (16 * 1024)
#define LEEWAY_DEFAULT	 60
#define REFRESH_DEFAULT	 600
#define CLAIM_DEFAULT	 "sub"

/* Of a key that others can read, RFC 7518 3.1: no HS, and never "none". */
static const char *const public_algorithms[] = { "RS256", "RS384", "RS512",
	"PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", NULL };
static const char *const secret_algorithms[] = { "HS256", "HS384", "HS512",
	NULL };

/* ---- a secret ---- */

static bool
is_same(const struct secret *a, const struct secret *b)
{
	const char *a_text, *b_text;
	size_t a_len, b_len;

	if (a == NULL || b == NULL)
		return false;
	a_text = secret_peek(a, &a_len);
	b_text = secret_peek(b, &b_len);
	return a_len == b_len && crypt_equal(a_text, b_text, a_len);
}

/*
 * A secret that signs what we give to anybody who asks would let anybody sign
 * in as anybody.
 */
static enum err
check_secret(struct conf_section *section, const struct config *config,
    const struct secret *secret, struct diag *diag)
{
	const char *also = NULL;

	if (is_same(secret, config->tickets.secret))
		also = "tickets";
	if (config->livekit != NULL &&
	    is_same(secret, config->livekit->api_secret))
		also = "livekit";
	if (also == NULL)
		return ERR_OK;
	return conf_fail(section, "secret", diag,
	    "is that of section %s, too, whose tokens would sign a user in: "
	    "make another",
	    also);
}

static enum err
build_secret(struct conf_section *section, const struct config *config,
    struct config_users *users, struct diag *diag)
{
	struct secret *secret = NULL;
	struct diag why;
	enum err err = value_get_secret(section, "secret", NULL, &secret, diag);

	if (err == ERR_OK)
		err = check_secret(section, config, secret, diag);
	if (err == ERR_OK &&
	    crypt_key_from_secret(secret, &users->key, &why) != ERR_OK)
		err = conf_fail(section, "secret", diag, "%s", why.text);
	if (err == ERR_OK)
		users->key_source = xstrdup(secret_source(secret));
	secret_free(secret);
	return err;
}

/* ---- public keys ---- */

static enum err
build_public_key(struct conf_section *section, struct config_users *users,
    struct diag *diag)
{
	char *pem = NULL;
	struct diag why;
	enum err err = value_get_text_file(section, "public_key_file",
	    PUBLIC_KEY_BYTES, &users->key_source, &pem, diag);

	if (err == ERR_OK && pem == NULL)
		err = conf_fail(section, "public_key_file", diag,
		    "write the path of a PEM file");
	/* it would verify as well, and has no business here */
	if (err == ERR_OK && strstr(pem, "PRIVATE KEY") != NULL) {
		explicit_bzero(pem, strlen(pem));
		err = conf_fail(section, "public_key_file", diag,
		    "%.100s is a private key: openssl pkey -pubout makes the "
		    "public one of it",
		    users->key_source);
	}
	if (err == ERR_OK &&
	    crypt_key_from_pem(pem, strlen(pem), &users->key, &why) != ERR_OK)
		err =
		    conf_fail(section, "public_key_file", diag, "%s", why.text);
	free(pem);
	return err;
}

static enum err
build_jwks_file(struct conf_section *section, struct config_users *users,
    struct diag *diag)
{
	return value_get_text(section, "jwks_file", value_check_file, NULL,
	    &users->jwks_file, diag);
}

static enum err
build_jwks_url(struct conf_section *section, struct config_users *users,
    struct diag *diag)
{
	struct config_url url = { .tls = false };
	struct diag why;
	enum err err = value_get_text(section, "jwks_url", NULL, NULL,
	    &users->jwks_url, diag);

	if (err != ERR_OK)
		return err;
	if (url_parse_http(users->jwks_url, &url, &why) != ERR_OK)
		err = conf_fail(section, "jwks_url", diag, "%s", why.text);
	else if (!url.tls && !users->allow_http && !url_host_is_local(url.host))
		err = conf_fail(section, "jwks_url", diag,
		    "fetches keys in the clear, and whoever is on the way "
		    "could give his own: write allow_http = true where the "
		    "network between is yours");
	/* who writes the name of this machine means it */
	else if (url_host_is_local(url.host))
		users->allow_private = true;
	config_url_done(&url);
	return err;
}

static enum err
build_keys(struct conf_section *section, const struct config *config,
    struct config_users *users, struct diag *diag)
{
	static const char *const names[] = { "secret", "public_key_file",
		"jwks_file", "jwks_url" };
	const char *given = NULL;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!conf_given(section, names[i]))
			continue;
		if (given != NULL)
			return conf_fail(section, names[i], diag,
			    "goes without %s: leave out one of them", given);
		given = names[i];
	}
	if (given == NULL && users->remote_user)
		return ERR_OK;
	if (given == NULL)
		return conf_fail(section, NULL, diag,
		    "write secret, public_key_file, jwks_file or jwks_url: "
		    "what users' tokens are signed with");
	if (strcmp(given, "secret") == 0)
		return build_secret(section, config, users, diag);
	if (strcmp(given, "public_key_file") == 0)
		return build_public_key(section, users, diag);
	if (strcmp(given, "jwks_file") == 0)
		return build_jwks_file(section, users, diag);
	return build_jwks_url(section, users, diag);
}

/* ---- what a token has to be ---- */

static bool
is_one_of(const char *const *names, const char *text)
{
	while (*names != NULL && strcmp(*names, text) != 0)
		names++;
	return *names != NULL;
}

static const char *
check_algorithm(const char *text)
{
	if (is_one_of(public_algorithms, text) ||
	    is_one_of(secret_algorithms, text))
		return NULL;
	return "write HS256, HS384, HS512, RS256 ..., PS256 ..., ES256, ES384, "
	       "ES512 or EdDSA";
}

/* One that no key can have is a mistake, not a rule. */
static enum err
build_algorithms(struct conf_section *section, struct config_users *users,
    struct diag *diag)
{
	struct config_strings *algorithms = &users->algorithms;

	if (value_get_list(section, "algorithms", check_algorithm, NULL,
		algorithms, diag) != ERR_OK)
		return ERR_PROTO;
	for (size_t i = 0; i < algorithms->count; i++) {
		const char *alg = algorithms->items[i];

		if (users->key != NULL ? !crypt_key_allows(users->key, alg)
				       : !is_one_of(public_algorithms, alg))
			return conf_fail(section, "algorithms", diag,
			    "%s does not go with the key", alg);
	}
	return ERR_OK;
}

static const char *
check_claim(const char *text)
{
	return strlen(text) > 128 ? "a claim's name has at most 128 bytes"
				  : NULL;
}

static enum err
build_claims(struct conf_section *section, struct config_users *users,
    struct diag *diag)
{
	enum err err = value_get_optional(section, "issuer", value_check_field,
	    &users->issuer, diag);

	if (err == ERR_OK)
		err = value_get_optional(section, "audience", value_check_field,
		    &users->audience, diag);
	if (err == ERR_OK)
		err = value_get_optional(section, "user_claim", check_claim,
		    &users->user_claim, diag);
	if (users->user_claim == NULL)
		users->user_claim = xstrdup(CLAIM_DEFAULT);
	if (err == ERR_OK)
		err = value_get_optional(section, "plan_claim", check_claim,
		    &users->plan_claim, diag);
	if (err == ERR_OK)
		err = value_get_optional(section, "cookie", value_check_token,
		    &users->cookie, diag);
	return err;
}

static enum err
build_numbers(struct conf_section *section, struct config_users *users,
    struct diag *diag)
{
	uint64_t leeway = 0, refresh = 0;
	enum err err = value_get_number(section, "leeway", 0, 600,
	    LEEWAY_DEFAULT, &leeway, diag);

	if (err == ERR_OK)
		err = value_get_number(section, "jwks_refresh", 30, 86400,
		    REFRESH_DEFAULT, &refresh, diag);
	users->leeway_s = (int64_t)leeway;
	users->jwks_refresh_s = (int64_t)refresh;
	return err;
}

/* ---- the section ---- */

static enum err
build_users(struct conf_section *section, const struct config *config,
    struct config_users *users, struct diag *diag)
{
	enum err err = value_get_bool(section, "remote_user", false,
	    &users->remote_user, diag);

	if (err == ERR_OK)
		err = value_get_bool(section, "allow_http", false,
		    &users->allow_http, diag);
	if (err == ERR_OK)
		err = value_get_bool(section, "allow_private", false,
		    &users->allow_private, diag);
	if (err == ERR_OK)
		err = value_get_ca_file(section, &users->ca_file, diag);
	if (err == ERR_OK)
		err = build_keys(section, config, users, diag);
	if (err == ERR_OK)
		err = build_algorithms(section, users, diag);
	if (err == ERR_OK)
		err = build_claims(section, users, diag);
	if (err == ERR_OK)
		err = build_numbers(section, users, diag);
	return err;
}

/* Nobody is a user: then no section may want one. */
static enum err
check_nobody(struct conf_section *root, struct diag *diag)
{
	static const char *const names[] = { "openai", "relay", "livekit",
		"anam", "chat" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t count = conf_section_count(root, names[i]);

		for (size_t k = 0; k < count; k++) {
			struct conf_section *section =
			    conf_section(root, names[i], k);
			bool required = false;
			enum err err = value_get_bool(section, "require_user",
			    false, &required, diag);

			if (err == ERR_OK && required)
				err = conf_fail(section, "require_user", diag,
				    "nobody can be one: write users { ... }");
			if (err != ERR_OK)
				return err;
		}
	}
	return ERR_OK;
}

enum err
config_users_build(struct conf_section *root, struct config *config,
    struct diag *diag)
{
	struct conf_section *section = conf_section(root, "users", 0);

	if (section == NULL)
		return check_nobody(root, diag);
	config->users = xcalloc(1, sizeof(*config->users));
	return build_users(section, config, config->users, diag);
}

/* ---- the way back ---- */

void
config_users_dump(const struct config_users *users, FILE *out)
{
	(void)fputs("users {\n", out);
	if (users->key != NULL)
		value_put_text(out, 1,
		    users->key_source[0] == '/' ? "public_key_file" : "secret",
		    users->key_source);
	if (users->jwks_file != NULL)
		value_put_text(out, 1, "jwks_file", users->jwks_file);
	if (users->jwks_url != NULL)
		value_put_text(out, 1, "jwks_url", users->jwks_url);
	value_put_text(out, 1, "ca_file", users->ca_file);
	value_put_bool(out, 1, "allow_http", users->allow_http);
	value_put_bool(out, 1, "allow_private", users->allow_private);
	value_put_number(out, 1, "jwks_refresh",
	    (uint64_t)users->jwks_refresh_s);
	value_put_list(out, 1, "algorithms", &users->algorithms);
	value_put_text(out, 1, "issuer", users->issuer);
	value_put_text(out, 1, "audience", users->audience);
	value_put_number(out, 1, "leeway", (uint64_t)users->leeway_s);
	value_put_text(out, 1, "user_claim", users->user_claim);
	value_put_text(out, 1, "plan_claim", users->plan_claim);
	value_put_text(out, 1, "cookie", users->cookie);
	value_put_bool(out, 1, "remote_user", users->remote_user);
	(void)fputs("}\n", out);
}
