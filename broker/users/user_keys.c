/* SPDX-License-Identifier: MIT */
#include "broker/users/user_keys.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "broker/http/http_client.h"
#include "broker/users/jwks.h"
#include "common/clock.h"
#include "common/json.h"
#include "common/jwt.h"
#include "common/log.h"
#include "common/str.h"
#include "common/thread.h"
#include "common/xalloc.h"

#define FETCH_MS 5000  /* for one fetch, and for who waits for it */
#define START_MS 1000  /* that the start of the program waits for it */
#define AGAIN_MS 30000 /* between two fetches that tokens ask for */
#define FIRST_MS 5000  /* the same while there is no set at all */
#define WAITERS	 4     /* for a fetch: some of those that decide go on */
#define TEXT_MAX 256   /* of alg, kid and typ */

#define LOG_MS	     1000 /* between two lines about tokens */
#define ALG_LOG_SIZE 24
#define KID_LOG_SIZE 72

/* A set that somebody may be using; refs is under the lock. */
struct set {
	struct jwks *jwks;
	unsigned refs;
};

/* What a file was like when it was read. */
struct version {
	struct timespec changed;
	off_t size;
	ino_t inode;
};

/*
 * There is one source, the configuration's; another one takes its place after
 * a reload.
 */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t over; /* a fetch; on the monotonic clock */
	char *name;	     /* the URL, or the path; NULL: none yet */
	struct set *set;     /* NULL: none was had yet */
	/* of a URL, by clock_ms() */
	bool fetching, failed;
	bool joinable; /* the thread of the last fetch, which does not wait */
	pthread_t thread;
	int64_t fresh_ms, again_ms;
	int64_t asked_at; /* when the last fetch began, since 1970 */
	unsigned waiters;
	/* of a file */
	struct version version;
	/* refusals that the log does not say, and until when it says no more */
	unsigned long long refused;
	int64_t told_ms;
} source = { .lock = PTHREAD_MUTEX_INITIALIZER };

__attribute__((constructor)) static void
set_up(void)
{
	pthread_condattr_t attr;

	if (pthread_condattr_init(&attr) != 0 ||
	    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) != 0 ||
	    pthread_cond_init(&source.over, &attr) != 0)
		abort();
	(void)pthread_condattr_destroy(&attr);
}

/* ---- sets; all under the lock ---- */

static void
unref(struct set *set)
{
	if (set == NULL || --set->refs > 0)
		return;
	jwks_free(set->jwks);
	free(set);
}

static void
put_set(struct jwks *jwks)
{
	struct set *set = xcalloc(1, sizeof(*set));

	set->jwks = jwks;
	set->refs = 1;
	unref(source.set);
	source.set = set;
}

/* Have the source be this one; what was had of another is forgotten. */
static void
use_source(const char *name)
{
	if (source.name != NULL && strcmp(source.name, name) == 0)
		return;
	free(source.name);
	source.name = xstrdup(name);
	unref(source.set);
	source.set = NULL;
	source.failed = false;
	source.fresh_ms = source.again_ms = source.asked_at = 0;
	source.version = (struct version){ .size = -1 };
}

/* ---- a file ---- */

static enum err
read_file(const char *path, struct version *version, char **ret,
    size_t *ret_len)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t done = 0;
	struct stat st;
	char *text;
	ssize_t n = 1;

	if (fd == -1)
		return ERR_SYS;
	if (fstat(fd, &st) == -1 || !S_ISREG(st.st_mode) ||
	    st.st_size > JWKS_MAX_BYTES) {
		(void)close(fd);
		return ERR_LIMIT;
	}
	text = xcalloc(1, JWKS_MAX_BYTES + 1);
	while (n > 0 && done <= JWKS_MAX_BYTES) {
		n = read(fd, text + done, JWKS_MAX_BYTES + 1 - done);
		done += n > 0 ? (size_t)n : 0;
	}
	(void)close(fd);
	*version = (struct version){ st.st_mtim, st.st_size, st.st_ino };
	*ret = text;
	*ret_len = done;
	return ERR_OK;
}

static bool
has_changed(const char *path)
{
	struct stat st;

	/* one that is away for a moment is about to be replaced */
	if (stat(path, &st) == -1)
		return source.set == NULL;
	return st.st_mtim.tv_sec != source.version.changed.tv_sec ||
	    st.st_mtim.tv_nsec != source.version.changed.tv_nsec ||
	    st.st_size != source.version.size ||
	    st.st_ino != source.version.inode;
}

/* Read it anew where it has changed; what was had stays where it is bad. */
static void
check_file(const char *path)
{
	struct diag why = { "" };
	struct jwks *jwks = NULL;
	char *text = NULL;
	size_t len;
	enum err err;

	if (!has_changed(path))
		return;
	err = read_file(path, &source.version, &text, &len);
	if (err != ERR_OK)
		diag_set(&why, "it cannot be read");
	else
		err = jwks_parse(text, len, &jwks, &why);
	free(text);
	if (err == ERR_OK)
		put_set(jwks);
	else
		log_error("users.keys_failed", "source=%s reason=\"%s\"", path,
		    why.text);
}

/* ---- a URL ---- */

/* What the thread of a fetch has for itself: a reload may take the config. */
struct fetch {
	char *url, *ca_file;
	bool allow_private;
	int64_t refresh_ms;
};

static void
fetch_free(struct fetch *fetch)
{
	free(fetch->url);
	free(fetch->ca_file);
	free(fetch);
}

static enum err
fetch_set(const struct fetch *fetch, struct jwks **ret, struct diag *diag)
{
	static const struct http_client_header accept = { "Accept",
		"application/jwk-set+json, application/json", NULL };
	const struct http_client_request request = {
		.method = "GET",
		.url = fetch->url,
		.headers = &accept,
		.header_count = 1,
		.ca_file = fetch->ca_file,
		.allow_private = fetch->allow_private,
		.deadline_ms = clock_ms() + FETCH_MS,
		.max_bytes = JWKS_MAX_BYTES,
	};
	struct http_client_answer answer;
	enum err err = http_client_send(&request, &answer, diag);

	if (err != ERR_OK)
		return err;
	if (answer.status == 200) {
		err = jwks_parse(answer.body, answer.body_len, ret, diag);
	} else {
		diag_set(diag, "it answers %d", answer.status);
		err = ERR_UPSTREAM;
	}
	http_client_answer_done(&answer);
	return err;
}

static void
end_fetch(const struct fetch *fetch, struct jwks *jwks)
{
	int64_t now_ms = clock_ms();

	(void)pthread_mutex_lock(&source.lock);
	if (strcmp(source.name, fetch->url) != 0) {
		jwks_free(jwks);
	} else if (jwks != NULL) {
		put_set(jwks);
		source.failed = false;
		source.fresh_ms = now_ms + fetch->refresh_ms;
		source.again_ms = now_ms + AGAIN_MS;
	} else {
		source.failed = true;
		source.again_ms =
		    now_ms + (source.set == NULL ? FIRST_MS : AGAIN_MS);
	}
	source.fetching = false;
	(void)pthread_cond_broadcast(&source.over);
	(void)pthread_mutex_unlock(&source.lock);
}

static void *
run_fetch(void *arg)
{
	struct fetch *fetch = arg;
	struct diag why = { "" };
	struct jwks *jwks = NULL;
	int64_t started_ms = clock_ms();

	if (fetch_set(fetch, &jwks, &why) == ERR_OK)
		log_info("users.keys", "source=%s ms=%lld", fetch->url,
		    (long long)(clock_ms() - started_ms));
	else
		log_error("users.keys_failed", "source=%s reason=\"%s\"",
		    fetch->url, why.text);
	end_fetch(fetch, jwks); /* whoever holds the lock may join us now */
	fetch_free(fetch);
	return NULL;
}

/*
 * Have the thread of a fetch that is over be gone, with what libraries keep
 * for it: they are taken down at the end of the process.
 */
static void
join_last(void)
{
	if (source.joinable)
		(void)pthread_join(source.thread, NULL);
	source.joinable = false;
}

/* Begin one, unless one runs already, or ran a moment ago. */
static void
start_fetch(const struct config_users *users)
{
	int64_t now_ms = clock_ms();
	struct fetch *fetch;
	struct diag why;

	if (source.fetching || now_ms < source.again_ms)
		return;
	join_last();
	fetch = xcalloc(1, sizeof(*fetch));
	fetch->url = xstrdup(users->jwks_url);
	fetch->ca_file =
	    users->ca_file == NULL ? NULL : xstrdup(users->ca_file);
	fetch->allow_private = users->allow_private;
	fetch->refresh_ms = users->jwks_refresh_s * 1000;
	if (thread_start(&source.thread, "user-keys", run_fetch, fetch, &why) !=
	    ERR_OK) {
		log_error("users.keys_failed", "source=%s reason=\"%s\"",
		    fetch->url, why.text);
		source.failed = true;
		source.again_ms = now_ms + FIRST_MS;
		fetch_free(fetch);
		return;
	}
	source.joinable = true;
	source.fetching = true;
	source.asked_at = clock_unix();
}

/* Wait for the one that runs, if any; false where that would take too long. */
static bool
wait_for_fetch(int64_t time_ms)
{
	int64_t until_ms = clock_ms() + time_ms;
	const struct timespec until = {
		.tv_sec = until_ms / 1000,
		.tv_nsec = until_ms % 1000 * 1000000,
	};
	int error = 0;

	if (!source.fetching)
		return true;
	/* each of them holds a thread that others want */
	if (source.waiters >= WAITERS)
		return false;
	source.waiters++;
	while (source.fetching && error == 0)
		error =
		    pthread_cond_timedwait(&source.over, &source.lock, &until);
	source.waiters--;
	return !source.fetching;
}

/* ---- the key of a token ---- */

/* What of its header decides; borrowed of that. */
struct head {
	const char *alg, *kid, *typ; /* kid, typ: NULL where absent */
	int64_t issued; /* as the token says, unchecked; 0: it does not */
};

static enum err
find_in_set(const struct head *head, const struct crypt_key **ret,
    struct diag *diag)
{
	if (source.set == NULL) {
		diag_set(diag, "the issuer's keys cannot be had now");
		return ERR_UNAVAIL;
	}
	return jwks_find(source.set->jwks, head->kid, head->alg, ret, diag);
}

/*
 * Whether a key that we do not have may be one that the issuer has had since he
 * was last asked, and may not be asked yet.  Who lies about it is told to come
 * back for nothing.
 */
static bool
may_be_newer(const struct config_users *users, const struct head *head)
{
	return head->issued > source.asked_at &&
	    head->issued <= clock_unix() + users->leeway_s;
}

static enum err
find_fetched(const struct config_users *users, const struct head *head,
    const struct crypt_key **ret, struct diag *diag)
{
	struct diag why = { "" };
	enum err err;
	bool waited;

	/* one that is too old does meanwhile */
	if (clock_ms() >= source.fresh_ms)
		start_fetch(users);
	err = find_in_set(head, ret, &why);
	if (err == ERR_UNAUTH)
		diag_set(diag, "%s", why.text);
	if (err != ERR_NOTFOUND && err != ERR_UNAVAIL)
		return err;
	start_fetch(users);
	waited = wait_for_fetch(FETCH_MS);
	/* all may have changed meanwhile, but this is one source's set */
	if (strcmp(source.name, users->jwks_url) != 0) {
		diag_set(diag, "the configuration has changed");
		return ERR_UNAVAIL;
	}
	err = find_in_set(head, ret, diag);
	/* it may be in the set that we have not */
	if (err == ERR_NOTFOUND &&
	    (!waited || source.failed || may_be_newer(users, head)))
		err = ERR_UNAVAIL;
	return err;
}

/* *ret is of *ret_set, which is the caller's to unref, where that is not NULL.
 */
static enum err
find_key(const struct config_users *users, const struct head *head,
    const struct crypt_key **ret, struct set **ret_set, struct diag *diag)
{
	enum err err;

	*ret_set = NULL;
	if (users->key != NULL) {
		*ret = users->key;
		return ERR_OK;
	}
	(void)pthread_mutex_lock(&source.lock);
	if (users->jwks_file != NULL) {
		use_source(users->jwks_file);
		check_file(users->jwks_file);
		err = find_in_set(head, ret, diag);
	} else {
		use_source(users->jwks_url);
		err = find_fetched(users, head, ret, diag);
	}
	if (err == ERR_OK) {
		*ret_set = source.set;
		source.set->refs++;
	}
	(void)pthread_mutex_unlock(&source.lock);
	return err == ERR_NOTFOUND ? ERR_UNAUTH : err;
}

/* ---- what the log says of a refusal ---- */

static bool
may_use(const struct config_users *users, const char *alg)
{
	const struct config_strings *algorithms = &users->algorithms;

	for (size_t i = 0; i < algorithms->count; i++)
		if (strcmp(algorithms->items[i], alg) == 0)
			return true;
	return algorithms->count == 0;
}

/* Append ",text", or nothing where there is no room for it. */
static void
append(char *out, size_t size, const char *text)
{
	size_t len = strlen(out);

	if (len + strlen(text) + 2 > size)
		return;
	(void)snprintf(out + len, size - len, "%s%s", len == 0 ? "" : ",",
	    text);
}

/* The algorithms that keys and configuration accept. */
static void
describe_algorithms(const struct config_users *users, char *out, size_t size)
{
	const struct jwks *jwks = source.set == NULL ? NULL : source.set->jwks;
	const char *alg;

	for (size_t i = 0; (alg = crypt_algorithm(i)) != NULL; i++)
		if (may_use(users, alg) &&
		    (users->key != NULL
			    ? crypt_key_allows(users->key, alg)
			    : jwks != NULL && jwks_allows(jwks, alg)))
			append(out, size, alg);
}

static void
describe_kids(char *out, size_t size)
{
	char escaped[KID_LOG_SIZE];
	const char *kid;

	for (size_t i = 0; source.set != NULL &&
	     (kid = jwks_kid(source.set->jwks, i)) != NULL;
	     i++)
		append(out, size,
		    str_escape(escaped, sizeof(escaped), kid, strlen(kid)));
}

/* A member of the header that may be anything. */
static const char *
describe_member(const json_t *header, const char *name, char *out, size_t size)
{
	const char *text = json_string_value(json_object_get(header, name));

	return text == NULL ? "-" : str_escape(out, size, text, strlen(text));
}

/*
 * Who signs in with the wrong kind of token cannot be told why without being
 * told what this site expects; whoever runs it can.  Once a second, whatever
 * tokens come; kids and algorithms are no secrets.
 */
static void
log_refusal(const struct config_users *users, const json_t *header,
    const struct diag *diag)
{
	char alg[ALG_LOG_SIZE], kid[KID_LOG_SIZE];
	char algorithms[128] = "", kids[512] = "";
	int64_t now_ms = clock_ms();
	unsigned long long more;

	(void)pthread_mutex_lock(&source.lock);
	more = source.refused++;
	if (now_ms < source.told_ms) {
		(void)pthread_mutex_unlock(&source.lock);
		return;
	}
	source.refused = 0;
	source.told_ms = now_ms + LOG_MS;
	describe_algorithms(users, algorithms, sizeof(algorithms));
	if (users->key == NULL)
		describe_kids(kids, sizeof(kids));
	(void)pthread_mutex_unlock(&source.lock);
	log_info("users.refused",
	    "reason=\"%s\" alg=%s kid=%s accepts=%s%s%s more=%llu", diag->text,
	    describe_member(header, "alg", alg, sizeof(alg)),
	    describe_member(header, "kid", kid, sizeof(kid)), algorithms,
	    users->key == NULL ? " kids=" : "", kids, more);
}

/* ---- the check ---- */

/* "at+jwt" and "application/at+jwt" are the same (RFC 7515 4.1.9). */
static bool
is_type_of_user(const char *typ)
{
	if (strncasecmp(typ, "application/", 12) == 0)
		typ += 12;
	return strcasecmp(typ, "jwt") == 0 || strcasecmp(typ, "at+jwt") == 0;
}

static bool
get_member(const json_t *header, const char *name, const char **ret)
{
	*ret = NULL;
	return json_object_get(header, name) == NULL ||
	    json_get_string(header, name, TEXT_MAX, ret) == ERR_OK;
}

/*
 * What the same issuer signs for another purpose (a logout, a proof of
 * possession, ...) says so in its typ (RFC 8725 3.11).
 */
static enum err
read_head(const struct config_users *users, const json_t *header,
    struct head *ret, struct diag *diag)
{
	if (!get_member(header, "alg", &ret->alg) || ret->alg == NULL ||
	    !may_use(users, ret->alg))
		diag_set(diag, "the token's algorithm is not accepted");
	else if (!get_member(header, "typ", &ret->typ) ||
	    (ret->typ != NULL && !is_type_of_user(ret->typ)))
		diag_set(diag, "the token is not of the right type");
	else if (!get_member(header, "kid", &ret->kid))
		diag_set(diag, "the token's kid is not a short text");
	else
		return ERR_OK;
	return ERR_UNAUTH;
}

/*
 * What says that it is issued later than now would outlast a revocation, which
 * takes what was issued until then.
 */
static enum err
check_issued(const struct config_users *users, const json_t *claims,
    int64_t now, struct diag *diag)
{
	double issued = json_number_value(json_object_get(claims, "iat"));

	if (issued <= (double)(now + users->leeway_s))
		return ERR_OK;
	diag_set(diag, "the token is issued in the future");
	return ERR_UNAUTH;
}

/*
 * A set whose keys have no names does not show which of them are new: where
 * another one can be had now than this, it is worth a second look.
 */
static bool
has_other_set(const struct config_users *users, const struct set *set)
{
	bool other = false;

	(void)pthread_mutex_lock(&source.lock);
	if (users->jwks_url != NULL &&
	    strcmp(source.name, users->jwks_url) == 0) {
		if (source.set == set)
			start_fetch(users);
		other = wait_for_fetch(FETCH_MS) && source.set != set;
	}
	(void)pthread_mutex_unlock(&source.lock);
	return other;
}

/* *ret_set is what it was checked with, the caller's to unref, or NULL. */
static enum err
check(const struct config_users *users, const char *token, size_t len,
    const struct head *head, int64_t now, json_t **ret, struct set **ret_set,
    struct diag *diag)
{
	const struct jwt_policy policy = {
		.alg = head->alg,
		.issuer = users->issuer,
		.audience = users->audience,
		.leeway_s = users->leeway_s,
		.now = now,
	};
	const struct crypt_key *key;
	enum err err = find_key(users, head, &key, ret_set, diag);

	if (err == ERR_OK)
		err = jwt_verify(token, len, key, &policy, ret, diag);
	if (err != ERR_OK)
		return err;
	err = check_issued(users, *ret, now, diag);
	if (err != ERR_OK) {
		json_decref(*ret);
		*ret = NULL;
	}
	return err;
}

static void
drop(struct set *set)
{
	(void)pthread_mutex_lock(&source.lock);
	unref(set);
	(void)pthread_mutex_unlock(&source.lock);
}

static enum err
verify(const struct config_users *users, const char *token, size_t len,
    const json_t *header, int64_t now, json_t **ret, struct diag *diag)
{
	struct set *set, *old;
	struct head head;
	enum err err = read_head(users, header, &head, diag);

	if (err != ERR_OK)
		return err;
	head.issued = jwt_peek_issued(token, len);
	err = check(users, token, len, &head, now, ret, &set, diag);
	if (err == ERR_UNAUTH && head.kid == NULL && set != NULL &&
	    has_other_set(users, set)) {
		old = set;
		err = check(users, token, len, &head, now, ret, &set, diag);
		drop(old);
	}
	drop(set);
	return err;
}

enum err
user_keys_verify(const struct config_users *users, const char *token,
    size_t len, int64_t now, json_t **ret, struct diag *diag)
{
	json_t *header;
	enum err err;

	if (users == NULL ||
	    (users->key == NULL && users->jwks_file == NULL &&
		users->jwks_url == NULL)) {
		diag_set(diag, "nobody can sign in here");
		return ERR_UNAUTH;
	}
	err = jwt_peek_header(token, len, &header, diag);
	if (err == ERR_OK) {
		err = verify(users, token, len, header, now, ret, diag);
		if (err == ERR_UNAUTH && diag != NULL)
			log_refusal(users, header, diag);
		json_decref(header);
	}
	return err == ERR_LIMIT ? ERR_UNAUTH : err;
}

void
user_keys_prepare(const struct config_users *users)
{
	if (users == NULL || users->jwks_url == NULL)
		return;
	(void)pthread_mutex_lock(&source.lock);
	use_source(users->jwks_url);
	start_fetch(users);
	(void)wait_for_fetch(START_MS);
	(void)pthread_mutex_unlock(&source.lock);
}

void
user_keys_done(void)
{
	(void)pthread_mutex_lock(&source.lock);
	/* its time is bounded */
	while (source.fetching)
		(void)pthread_cond_wait(&source.over, &source.lock);
	join_last();
	free(source.name);
	source.name = NULL;
	unref(source.set);
	source.set = NULL;
	source.refused = 0;
	source.told_ms = 0;
	(void)pthread_mutex_unlock(&source.lock);
}
