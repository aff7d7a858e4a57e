/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "broker/socketio/sio_gather.h"

#define TWO                                                                   \
	"52-[\"e\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true," \
	"\"num\":1}]"

static size_t
max_text(const char *namespace)
{
	return strcmp(namespace, "/long") == 0 ? 100 : 80;
}

static enum err
text(struct sio_gather *gather, const char *data, struct sio_packet *ret)
{
	return sio_gather_text(gather, data, strlen(data), max_text, ret);
}

static enum err
attachment(struct sio_gather *gather, const char *data, size_t max_bytes,
    struct sio_packet *ret)
{
	return sio_gather_attachment(gather, data, strlen(data), max_bytes,
	    ret);
}

static void
gives_a_text_without_attachments_at_once(void **state)
{
	struct sio_gather gather;
	struct sio_packet packet;

	(void)state;
	sio_gather_init(&gather);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(text(&gather, "2[\"e\",1]", &packet), ERR_OK);
		assert_int_equal(packet.type, SIO_EVENT);
		assert_int_equal(json_array_size(packet.data), 2);
		sio_packet_done(&packet);
	}
	sio_gather_done(&gather);
}

static void
gives_a_packet_when_its_last_attachment_has_come(void **state)
{
	struct sio_gather gather;
	struct sio_packet packet;

	(void)state;
	sio_gather_init(&gather);
	assert_int_equal(text(&gather, TWO, &packet), ERR_AGAIN);
	assert_int_equal(attachment(&gather, "one", 1000, &packet), ERR_AGAIN);
	assert_int_equal(attachment(&gather, "two", 1000, &packet), ERR_OK);
	assert_int_equal(packet.attachment_count, 2);
	assert_memory_equal(packet.attachments[1].data, "two", 3);
	sio_packet_done(&packet);
	/* and is ready for the next one */
	assert_int_equal(text(&gather, "2[\"e\"]", &packet), ERR_OK);
	sio_packet_done(&packet);
	sio_gather_done(&gather);
}

static void
refuses_what_comes_out_of_turn(void **state)
{
	struct sio_gather gather;
	struct sio_packet packet;

	(void)state;
	sio_gather_init(&gather);
	assert_int_equal(attachment(&gather, "x", 1000, &packet), ERR_PROTO);
	assert_int_equal(text(&gather, TWO, &packet), ERR_AGAIN);
	assert_int_equal(text(&gather, "2[\"e\"]", &packet), ERR_PROTO);
	sio_gather_done(&gather);
}

static void
refuses_more_than_its_maximum(void **state)
{
	static const char longer[] =
	    "[\"e\",\"0123456789012345678901234567890123456789"
	    "01234567890123456789012345678901234567890123456789\"]";
	struct sio_gather gather;
	struct sio_packet packet;
	char in_long[160] = "2/long,", elsewhere[160] = "2/other,";

	(void)state;
	sio_gather_init(&gather);
	assert_int_equal(text(&gather, strcat(in_long, longer), &packet),
	    ERR_OK);
	sio_packet_done(&packet);
	assert_int_equal(text(&gather, strcat(elsewhere, longer), &packet),
	    ERR_LIMIT);
	/* text and attachments together */
	assert_int_equal(text(&gather, TWO, &packet), ERR_AGAIN);
	assert_int_equal(attachment(&gather, "1234", strlen(TWO) + 4, &packet),
	    ERR_AGAIN);
	assert_int_equal(attachment(&gather, "1", strlen(TWO) + 4, &packet),
	    ERR_LIMIT);
	sio_gather_done(&gather);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gives_a_text_without_attachments_at_once),
		cmocka_unit_test(
		    gives_a_packet_when_its_last_attachment_has_come),
		cmocka_unit_test(refuses_what_comes_out_of_turn),
		cmocka_unit_test(refuses_more_than_its_maximum),
	};

	return cmocka_run_group_tests_name("sio_gather", tests, NULL, NULL);
}
