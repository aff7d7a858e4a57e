/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "broker/http/probes.h"
#include "broker/tunnels/tunnel_probe.h"
#include "common/json.h"
#include "common/probe.h"
#include "common/xalloc.h"

static void
is_good_until_as_many_more_are_made(void **state)
{
	char id[PROBES_ID_BYTES], other[PROBES_ID_BYTES];

	(void)state;
	probes_make(id);
	for (int i = 1; i < PROBES_MAX; i++) {
		probes_make(other);
		assert_true(probes_is_good(other));
		assert_true(probes_is_good(id));
	}
	probes_make(other);
	assert_false(probes_is_good(id));
	assert_true(probes_is_good(other));
}

static void
knows_no_other(void **state)
{
	char id[PROBES_ID_BYTES];

	(void)state;
	probes_make(id);
	assert_false(probes_is_good(NULL));
	assert_false(probes_is_good(""));
	id[0] = id[0] == '0' ? '1' : '0';
	assert_false(probes_is_good(id));
	id[PROBES_ID_BYTES - 2] = '\0';
	assert_false(probes_is_good(id));
}

/* Not what they are: they could be another's. */
static void
tells_whether_credentials_came_and_not_which(void **state)
{
	struct probes_request request = {
		.at = "broker",
		.host = "h\n",
		.authorization = "Bearer hidden",
		.cookie = "a=b; " PROBE_COOKIE,
	};
	json_t *report;
	char *text;
	size_t len;

	(void)state;
	report = probes_report(&request);
	text = json_text(report, &len);
	assert_string_equal(text,
	    "{\"probe\":{\"at\":\"broker\",\"client\":null,\"scheme\":null,"
	    "\"host\":\"h\\\\x0a\",\"origin\":null,\"authorization\":false,"
	    "\"cookie\":true,\"subprotocol\":false,\"query\":false}}");
	free(text);
	json_decref(report);
}

static struct wire_packet *
open_with(const char *id)
{
	char *text = xasprintf("{\"v\":1,\"type\":\"open\",\"method\":\"GET\","
			       "\"target\":\"/x?%s\",\"headers\":"
			       "[[\"x-culvert-probe\",\"%s\"]],"
			       "\"peer\":{\"local\":true}}",
	    PROBE_QUERY, id);
	struct wire_packet *packet;
	struct diag diag;

	assert_int_equal(wire_parse(text, strlen(text), &packet, &diag),
	    ERR_OK);
	free(text);
	return packet;
}

static void
refuses_a_tunnel_of_a_probe_alone(void **state)
{
	char id[PROBES_ID_BYTES];
	struct wire_packet *open = open_with("no"), *answer;
	const json_t *seen;

	(void)state;
	assert_null(tunnel_probe_answer(&open->open));
	wire_packet_free(open);
	probes_make(id);
	open = open_with(id);
	answer = tunnel_probe_answer(&open->open);
	assert_non_null(answer);
	assert_int_equal(answer->deny.status, PROBE_STATUS);
	seen = json_object_get(answer->deny.body, "probe");
	assert_true(json_is_true(json_object_get(seen, "query")));
	assert_true(json_is_null(json_object_get(seen, "client")));
	wire_packet_free(answer);
	wire_packet_free(open);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(is_good_until_as_many_more_are_made),
		cmocka_unit_test(knows_no_other),
		cmocka_unit_test(tells_whether_credentials_came_and_not_which),
		cmocka_unit_test(refuses_a_tunnel_of_a_probe_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
