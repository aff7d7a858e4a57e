/* SPDX-License-Identifier: MIT */
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "tunnel/stream.h"

#define ROUNDS_MAX 100
#define BULK_BYTES (4 * 1024 * 1024)
#define DAY_S	   86400L

/* Made once: an authority in a file, and who trusts it alone. */
struct world {
	char dir[32], ca_path[48];
	EVP_PKEY *key; /* of all, authorities and servers */
	X509 *ca, *other_ca;
	struct stream_trust *trust;
};

/* A stream, and the server at the far end of its socket pair. */
struct talk {
	struct stream *stream;
	int fd;
	SSL_CTX *ctx; /* NULL: plain */
	SSL *server;
};

/* What a test's server shows. */
struct offer {
	const char *san;
	const X509 *issuer; /* NULL: the one that is trusted */
	long from_s, to_s;  /* relative to now; 0, 0: good */
	int version;	    /* the only one; 0: any */
};

static void
add_extension(X509 *cert, int nid, const char *value)
{
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, nid, value);

	assert_non_null(ext);
	assert_int_equal(X509_add_ext(cert, ext, -1), 1);
	X509_EXTENSION_free(ext);
}

/* An authority where san is NULL; self-signed where issuer is. */
static X509 *
make_cert(EVP_PKEY *key, const char *subject, const X509 *issuer,
    const struct offer *offer)
{
	static long serial;
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);

	assert_int_equal(X509_set_version(cert, X509_VERSION_3), 1);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(cert),
	    offer->from_s != 0 ? offer->from_s : -DAY_S);
	X509_gmtime_adj(X509_getm_notAfter(cert),
	    offer->to_s != 0 ? offer->to_s : DAY_S);
	assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
			     (const unsigned char *)subject, -1, -1, 0),
	    1);
	X509_set_issuer_name(cert,
	    issuer != NULL ? X509_get_subject_name(issuer) : name);
	X509_set_pubkey(cert, key);
	if (offer->san == NULL)
		add_extension(cert, NID_basic_constraints, "critical,CA:TRUE");
	else
		add_extension(cert, NID_subject_alt_name, offer->san);
	assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
	return cert;
}

static int
make_world(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	const struct offer authority = { .san = NULL };
	FILE *file;

	assert_non_null(world);
	(void)strcpy(world->dir, "/tmp/test_stream.XXXXXX");
	assert_non_null(mkdtemp(world->dir));
	(void)snprintf(world->ca_path, sizeof(world->ca_path), "%s/ca.pem",
	    world->dir);
	world->key = EVP_EC_gen("P-256");
	assert_non_null(world->key);
	world->ca = make_cert(world->key, "trusted", NULL, &authority);
	world->other_ca = make_cert(world->key, "other", NULL, &authority);
	file = fopen(world->ca_path, "we");
	assert_non_null(file);
	assert_int_equal(PEM_write_X509(file, world->ca), 1);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(stream_trust_new(world->ca_path, &world->trust, NULL),
	    ERR_OK);
	*state = world;
	return 0;
}

static int
unmake_world(void **state)
{
	struct world *world = *state;

	stream_trust_free(world->trust);
	X509_free(world->ca);
	X509_free(world->other_ca);
	EVP_PKEY_free(world->key);
	(void)unlink(world->ca_path);
	(void)rmdir(world->dir);
	free(world);
	return 0;
}

static void
begin(struct talk *talk)
{
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX,
			     SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
			     pair),
	    0);
	*talk = (struct talk){ .stream = stream_new(pair[0]), .fd = pair[1] };
	assert_int_equal(stream_fd(talk->stream), pair[0]);
}

/* The server leaves; the stream stays. */
static void
leave(struct talk *talk)
{
	SSL_free(talk->server);
	SSL_CTX_free(talk->ctx);
	talk->server = NULL;
	talk->ctx = NULL;
	if (talk->fd != -1)
		(void)close(talk->fd);
	talk->fd = -1;
}

static void
end(struct talk *talk)
{
	leave(talk);
	stream_free(talk->stream);
}

static void
begin_tls(struct talk *talk, const struct world *world, const char *name,
    const struct offer *offer)
{
	const X509 *issuer = offer->issuer != NULL ? offer->issuer : world->ca;
	X509 *cert = make_cert(world->key, "server", issuer, offer);

	begin(talk);
	talk->ctx = SSL_CTX_new(TLS_server_method());
	assert_non_null(talk->ctx);
	if (offer->version != 0) {
		SSL_CTX_set_security_level(talk->ctx, 0);
		assert_int_equal(SSL_CTX_set_min_proto_version(talk->ctx,
				     offer->version),
		    1);
		assert_int_equal(SSL_CTX_set_max_proto_version(talk->ctx,
				     offer->version),
		    1);
	}
	assert_int_equal(SSL_CTX_use_certificate(talk->ctx, cert), 1);
	assert_int_equal(SSL_CTX_use_PrivateKey(talk->ctx, world->key), 1);
	X509_free(cert);
	talk->server = SSL_new(talk->ctx);
	assert_non_null(talk->server);
	assert_int_equal(SSL_set_fd(talk->server, talk->fd), 1);
	SSL_set_accept_state(talk->server);
	assert_int_equal(stream_start_tls(talk->stream, world->trust, name,
			     NULL),
	    ERR_OK);
}

/* Both sides in turns, until the stream knows. */
static enum stream_result
shake(struct talk *talk, struct diag *diag)
{
	enum stream_result result = STREAM_WAIT;

	for (int i = 0; i < ROUNDS_MAX && result == STREAM_WAIT; i++) {
		result = stream_handshake(talk->stream, diag);
		(void)SSL_do_handshake(talk->server);
	}
	return result;
}

/* A talk whose handshake is over on both sides. */
static void
begin_good_tls(struct talk *talk, const struct world *world)
{
	const struct offer offer = { .san = "DNS:vendor.example" };

	begin_tls(talk, world, "vendor.example", &offer);
	assert_int_equal(shake(talk, NULL), STREAM_OK);
	assert_true(SSL_is_init_finished(talk->server));
}

static void
expect_read(struct stream *stream, const char *text)
{
	char got[64];
	size_t len;

	assert_int_equal(stream_read(stream, got, sizeof(got), &len),
	    STREAM_OK);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(got, text, len);
}

static void
expect_no_bytes(struct stream *stream, enum stream_result result)
{
	char got[64];
	size_t len = 1;

	assert_int_equal(stream_read(stream, got, sizeof(got), &len), result);
	assert_int_equal(len, 0);
}

static void
expect_write(struct stream *stream, const char *text)
{
	size_t len;

	assert_int_equal(stream_write(stream, text, strlen(text), &len),
	    STREAM_OK);
	assert_int_equal(len, strlen(text));
}

static void
serve(struct talk *talk, const char *text)
{
	int len = (int)strlen(text);

	if (talk->server != NULL)
		assert_int_equal(SSL_write(talk->server, text, len), len);
	else
		assert_int_equal(write(talk->fd, text, (size_t)len), len);
}

/* What the server has read; -1 where there is nothing for now. */
static int
receive(struct talk *talk, void *out, int size)
{
	return talk->server != NULL ? SSL_read(talk->server, out, size)
				    : (int)read(talk->fd, out, (size_t)size);
}

static void
expect_received(struct talk *talk, const char *text)
{
	char got[64];

	assert_int_equal(receive(talk, got, sizeof(got)), strlen(text));
	assert_memory_equal(got, text, strlen(text));
}

/* ---- plain and TLS alike ------------------------------------------------ */

static void
bytes_pass_both_ways(struct talk *talk)
{
	size_t len = 1;

	expect_no_bytes(talk->stream, STREAM_WAIT);
	serve(talk, "hello");
	expect_read(talk->stream, "hello");
	expect_no_bytes(talk->stream, STREAM_WAIT);
	expect_write(talk->stream, "good day");
	expect_received(talk, "good day");
	/* nothing is written at once */
	assert_int_equal(stream_write(talk->stream, NULL, 0, &len), STREAM_OK);
	assert_int_equal(len, 0);
}

/* Fill the socket, and let the rest follow from other memory. */
static void
a_write_goes_in_parts(struct talk *talk)
{
	uint8_t *all = malloc(BULK_BYTES), *got = malloc(BULK_BYTES), *rest;
	size_t sent, received = 0, len;
	int n;

	assert_non_null(all);
	assert_non_null(got);
	for (size_t i = 0; i < BULK_BYTES; i++)
		all[i] = (uint8_t)(i * 2654435761U >> 13);
	assert_int_equal(stream_write(talk->stream, all, BULK_BYTES, &sent),
	    STREAM_WAIT);
	assert_in_range(sent, 1, BULK_BYTES - 1);
	while (received < BULK_BYTES) {
		while (received < BULK_BYTES &&
		    (n = receive(talk, got + received,
			 (int)(BULK_BYTES - received))) > 0)
			received += (size_t)n;
		rest = malloc(BULK_BYTES - sent + 1);
		assert_non_null(rest);
		memcpy(rest, all + sent, BULK_BYTES - sent);
		assert_int_not_equal(stream_write(talk->stream, rest,
					 BULK_BYTES - sent, &len),
		    STREAM_LOST);
		free(rest);
		sent += len;
	}
	assert_int_equal(sent, BULK_BYTES);
	assert_memory_equal(got, all, BULK_BYTES);
	free(all);
	free(got);
}

/* The peer has spoken and left: its words are not lost with the writing. */
static void
last_words_are_read_after_a_lost_write(struct talk *talk)
{
	size_t len;

	serve(talk, "bye");
	leave(talk);
	assert_int_equal(stream_write(talk->stream, "x", 1, &len), STREAM_LOST);
	assert_int_equal(len, 0);
	expect_read(talk->stream, "bye");
	expect_no_bytes(talk->stream, STREAM_EOF);
	expect_no_bytes(talk->stream, STREAM_EOF);
}

/* We shut: the peer meets the end, and can still send. */
static void
reading_goes_on_after_a_shut(struct talk *talk)
{
	char c;

	expect_write(talk->stream, "end");
	stream_shut(talk->stream);
	expect_received(talk, "end");
	assert_int_equal(receive(talk, &c, 1), 0);
	if (talk->server != NULL)
		assert_int_equal(SSL_get_error(talk->server, 0),
		    SSL_ERROR_ZERO_RETURN);
	serve(talk, "more");
	expect_read(talk->stream, "more");
}

#define BOTH_KINDS(name)                       \
	static void plain_##name(void **state) \
	{                                      \
		struct talk talk;              \
                                               \
		(void)state;                   \
		begin(&talk);                  \
		name(&talk);                   \
		end(&talk);                    \
	}                                      \
	static void tls_##name(void **state)   \
	{                                      \
		struct talk talk;              \
                                               \
		begin_good_tls(&talk, *state); \
		name(&talk);                   \
		end(&talk);                    \
	}

BOTH_KINDS(bytes_pass_both_ways)
BOTH_KINDS(a_write_goes_in_parts)
BOTH_KINDS(last_words_are_read_after_a_lost_write)
BOTH_KINDS(reading_goes_on_after_a_shut)

/* ---- plain -------------------------------------------------------------- */

static void
a_plain_stream_needs_no_handshake_and_has_no_more(void **state)
{
	struct talk talk;

	(void)state;
	begin(&talk);
	assert_int_equal(stream_handshake(talk.stream, NULL), STREAM_OK);
	assert_false(stream_cert_refused(talk.stream));
	serve(&talk, "ab");
	assert_false(stream_has_more(talk.stream));
	end(&talk);
}

static void
a_reset_connection_is_lost(void **state)
{
	struct talk talk;

	(void)state;
	begin(&talk);
	/* closing with bytes unread resets */
	expect_write(talk.stream, "unread");
	leave(&talk);
	expect_no_bytes(talk.stream, STREAM_LOST);
	end(&talk);
}

static void
waits_for_what_is_wanted(void **state)
{
	struct talk talk;

	(void)state;
	begin(&talk);
	for (int i = 0; i < 4; i++) {
		bool want_read = i & 1, want_write = i & 2, r, w;

		stream_interest(talk.stream, want_read, want_write, &r, &w);
		assert_int_equal(r, want_read);
		assert_int_equal(w, want_write);
		stream_readiness(talk.stream, want_read, want_write, &r, &w);
		assert_int_equal(r, want_read);
		assert_int_equal(w, want_write);
	}
	end(&talk);
}

/* ---- TLS: whom it trusts ------------------------------------------------ */

static void
a_trust_that_cannot_be_read_is_named(void **state)
{
	struct world *world = *state;
	struct stream_trust *trust = NULL;
	char path[64];
	struct diag diag;

	(void)snprintf(path, sizeof(path), "%s/none.pem", world->dir);
	assert_int_equal(stream_trust_new(path, &trust, &diag), ERR_SYS);
	assert_null(trust);
	assert_non_null(strstr(diag.text, path));
	stream_trust_free(NULL);
	assert_int_equal(stream_trust_new(NULL, &trust, &diag), ERR_OK);
	stream_trust_free(trust);
}

static void
certificates_that_are_for_the_name_are_taken(void **state)
{
	static const struct {
		const char *name, *san, *sni;
	} cases[] = {
		{ "vendor.example", "DNS:vendor.example", "vendor.example" },
		{ "Vendor.Example", "DNS:vendor.example", "Vendor.Example" },
		{ "a.vendor.example", "DNS:*.vendor.example",
		    "a.vendor.example" },
		{ "192.0.2.7", "IP:192.0.2.7", NULL },
		{ "2001:db8::7", "IP:2001:db8:0:0::7", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct offer offer = { .san = cases[i].san };
		struct talk talk;
		const char *sni;

		begin_tls(&talk, *state, cases[i].name, &offer);
		assert_int_equal(shake(&talk, NULL), STREAM_OK);
		assert_false(stream_cert_refused(talk.stream));
		sni =
		    SSL_get_servername(talk.server, TLSEXT_NAMETYPE_host_name);
		/* an address is no name to be sent (RFC 6066 3) */
		if (cases[i].sni == NULL)
			assert_null(sni);
		else
			assert_string_equal(sni, cases[i].sni);
		end(&talk);
	}
}

static void
expect_refusal(struct world *world, const char *name, const struct offer *offer,
    const char *reason)
{
	struct talk talk;
	struct diag diag;
	size_t len;

	begin_tls(&talk, world, name, offer);
	assert_int_equal(shake(&talk, &diag), STREAM_LOST);
	assert_true(stream_cert_refused(talk.stream));
	assert_memory_equal(diag.text, "certificate verify failed: ", 27);
	assert_string_equal(diag.text + 27, reason);
	/* and there is no way past it */
	assert_int_equal(stream_write(talk.stream, "x", 1, &len), STREAM_LOST);
	expect_no_bytes(talk.stream, STREAM_LOST);
	stream_shut(talk.stream);
	end(&talk);
}

static void
a_certificate_for_another_name_is_refused(void **state)
{
	static const struct {
		const char *name, *san;
	} cases[] = {
		{ "vendor.example", "DNS:other.example" },
		{ "vendor.example", "DNS:www.vendor.example" },
		{ "vendor.example", "DNS:*.vendor.example" },
		{ "very.vendor.example", "DNS:v*.vendor.example" },
		{ "a.b.vendor.example", "DNS:*.vendor.example" },
		{ "vendor.example", "IP:192.0.2.7" },
		{ "vendor.example", "email:vendor@vendor.example" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct offer offer = { .san = cases[i].san };

		expect_refusal(*state, cases[i].name, &offer,
		    "hostname mismatch");
	}
}

static void
a_certificate_for_another_address_is_refused(void **state)
{
	const struct offer other = { .san = "IP:192.0.2.8" };
	const struct offer name = { .san = "DNS:192.0.2.7" };

	expect_refusal(*state, "192.0.2.7", &other, "IP address mismatch");
	/* an address written as a name is none */
	expect_refusal(*state, "192.0.2.7", &name, "IP address mismatch");
}

static void
a_certificate_of_an_unknown_authority_is_refused(void **state)
{
	struct world *world = *state;
	const struct offer offer = {
		.san = "DNS:vendor.example",
		.issuer = world->other_ca,
	};

	expect_refusal(world, "vendor.example", &offer,
	    "unable to get local issuer certificate");
}

static void
a_certificate_out_of_its_time_is_refused(void **state)
{
	const struct offer expired = {
		.san = "DNS:vendor.example",
		.from_s = -2 * DAY_S,
		.to_s = -60,
	};
	const struct offer early = {
		.san = "DNS:vendor.example",
		.from_s = 3600,
		.to_s = DAY_S,
	};

	expect_refusal(*state, "vendor.example", &expired,
	    "certificate has expired");
	expect_refusal(*state, "vendor.example", &early,
	    "certificate is not yet valid");
}

/* ---- TLS: the handshake ------------------------------------------------- */

static void
tls_1_2_and_1_3_are_spoken_and_nothing_older(void **state)
{
	static const struct {
		int version;
		enum stream_result result;
	} cases[] = {
		{ TLS1_3_VERSION, STREAM_OK },
		{ TLS1_2_VERSION, STREAM_OK },
		{ TLS1_1_VERSION, STREAM_LOST },
		{ TLS1_VERSION, STREAM_LOST },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct offer offer = {
			.san = "DNS:vendor.example",
			.version = cases[i].version,
		};
		struct diag diag = { "" };
		struct talk talk;

		begin_tls(&talk, *state, "vendor.example", &offer);
		assert_int_equal(shake(&talk, &diag), cases[i].result);
		assert_false(stream_cert_refused(talk.stream));
		if (cases[i].result == STREAM_LOST)
			assert_non_null(strstr(diag.text, "protocol version"));
		end(&talk);
	}
}

static void
a_peer_that_speaks_no_tls_is_lost(void **state)
{
	const struct offer offer = { .san = "DNS:vendor.example" };
	static const char answer[] = "HTTP/1.1 400 Bad Request\r\n\r\n";
	struct talk talk;
	struct diag diag;

	begin_tls(&talk, *state, "vendor.example", &offer);
	assert_int_equal(write(talk.fd, answer, sizeof(answer) - 1),
	    sizeof(answer) - 1);
	assert_int_equal(shake(&talk, &diag), STREAM_LOST);
	assert_false(stream_cert_refused(talk.stream));
	assert_memory_equal(diag.text, "TLS handshake failed: ", 22);
	assert_null(strstr(diag.text, "HTTP/1.1"));
	end(&talk);
}

static void
a_peer_that_leaves_in_the_handshake_is_lost(void **state)
{
	const struct offer offer = { .san = "DNS:vendor.example" };
	struct talk talk;
	struct diag diag;

	begin_tls(&talk, *state, "vendor.example", &offer);
	assert_int_equal(stream_handshake(talk.stream, &diag), STREAM_WAIT);
	(void)shutdown(talk.fd, SHUT_WR);
	assert_int_equal(stream_handshake(talk.stream, &diag), STREAM_LOST);
	assert_string_equal(diag.text,
	    "TLS handshake failed: the peer closed the connection");
	assert_false(stream_cert_refused(talk.stream));
	end(&talk);
}

/* ---- TLS: records and the end ------------------------------------------- */

static void
bytes_that_have_left_the_socket_are_more(void **state)
{
	static char sent[20000], got[20000];
	struct talk talk;
	size_t total = 0, n;
	char peek;

	begin_good_tls(&talk, *state);
	memset(sent, 'a', sizeof(sent));
	assert_int_equal(SSL_write(talk.server, sent, sizeof(sent)),
	    sizeof(sent));
	assert_int_equal(stream_read(talk.stream, got, 100, &n), STREAM_OK);
	/* two records have been read at once */
	assert_int_equal(recv(stream_fd(talk.stream), &peek, 1, MSG_PEEK), -1);
	for (total = n; total < sizeof(got); total += n) {
		assert_true(stream_has_more(talk.stream));
		n = sizeof(got) - total < 700 ? sizeof(got) - total : 700;
		assert_int_equal(stream_read(talk.stream, got + total, n, &n),
		    STREAM_OK);
	}
	assert_false(stream_has_more(talk.stream));
	assert_memory_equal(got, sent, sizeof(sent));
	expect_no_bytes(talk.stream, STREAM_WAIT);
	end(&talk);
}

static void
several_records_are_read_at_once(void **state)
{
	struct talk talk;

	begin_good_tls(&talk, *state);
	serve(&talk, "one ");
	serve(&talk, "two ");
	serve(&talk, "three");
	expect_read(talk.stream, "one two three");
	assert_false(stream_has_more(talk.stream));
	end(&talk);
}

static void
half_a_record_is_waited_for(void **state)
{
	struct talk talk;
	char record[64];
	ssize_t len;
	BIO *bio = BIO_new(BIO_s_mem());

	begin_good_tls(&talk, *state);
	BIO_up_ref(bio);
	SSL_set0_wbio(talk.server, bio);
	serve(&talk, "whole");
	len = BIO_read(bio, record, sizeof(record));
	assert_true(len > 10);
	assert_int_equal(write(talk.fd, record, 10), 10);
	expect_no_bytes(talk.stream, STREAM_WAIT);
	assert_false(stream_has_more(talk.stream));
	assert_int_equal(write(talk.fd, record + 10, (size_t)len - 10),
	    len - 10);
	expect_read(talk.stream, "whole");
	BIO_free(bio);
	end(&talk);
}

static void
an_end_behind_bytes_is_more_whether_it_was_told_or_not(void **state)
{
	for (int told = 0; told < 2; told++) {
		struct talk talk;

		begin_good_tls(&talk, *state);
		serve(&talk, "bye");
		if (told)
			assert_int_equal(SSL_shutdown(talk.server), 0);
		else
			leave(&talk);
		expect_read(talk.stream, "bye");
		/* no event of the socket would tell of it */
		assert_true(stream_has_more(talk.stream));
		expect_no_bytes(talk.stream, STREAM_EOF);
		if (told)
			expect_write(talk.stream, "still heard");
		end(&talk);
	}
}

static void
a_forged_record_is_lost(void **state)
{
	static const uint8_t forged[] = { 0x17, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6,
		7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20 };
	struct talk talk;
	size_t len;

	begin_good_tls(&talk, *state);
	serve(&talk, "good");
	assert_int_equal(write(talk.fd, forged, sizeof(forged)),
	    sizeof(forged));
	expect_read(talk.stream, "good");
	assert_true(stream_has_more(talk.stream));
	expect_no_bytes(talk.stream, STREAM_LOST);
	expect_no_bytes(talk.stream, STREAM_LOST);
	assert_int_equal(stream_write(talk.stream, "x", 1, &len), STREAM_LOST);
	end(&talk);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(plain_bytes_pass_both_ways),
		cmocka_unit_test(tls_bytes_pass_both_ways),
		cmocka_unit_test(plain_a_write_goes_in_parts),
		cmocka_unit_test(tls_a_write_goes_in_parts),
		cmocka_unit_test(plain_last_words_are_read_after_a_lost_write),
		cmocka_unit_test(tls_last_words_are_read_after_a_lost_write),
		cmocka_unit_test(plain_reading_goes_on_after_a_shut),
		cmocka_unit_test(tls_reading_goes_on_after_a_shut),
		cmocka_unit_test(
		    a_plain_stream_needs_no_handshake_and_has_no_more),
		cmocka_unit_test(a_reset_connection_is_lost),
		cmocka_unit_test(waits_for_what_is_wanted),
		cmocka_unit_test(a_trust_that_cannot_be_read_is_named),
		cmocka_unit_test(certificates_that_are_for_the_name_are_taken),
		cmocka_unit_test(a_certificate_for_another_name_is_refused),
		cmocka_unit_test(a_certificate_for_another_address_is_refused),
		cmocka_unit_test(
		    a_certificate_of_an_unknown_authority_is_refused),
		cmocka_unit_test(a_certificate_out_of_its_time_is_refused),
		cmocka_unit_test(tls_1_2_and_1_3_are_spoken_and_nothing_older),
		cmocka_unit_test(a_peer_that_speaks_no_tls_is_lost),
		cmocka_unit_test(a_peer_that_leaves_in_the_handshake_is_lost),
		cmocka_unit_test(bytes_that_have_left_the_socket_are_more),
		cmocka_unit_test(several_records_are_read_at_once),
		cmocka_unit_test(half_a_record_is_waited_for),
		cmocka_unit_test(
		    an_end_behind_bytes_is_more_whether_it_was_told_or_not),
		cmocka_unit_test(a_forged_record_is_lost),
	};

	(void)signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("stream", tests, make_world,
	    unmake_world);
}
