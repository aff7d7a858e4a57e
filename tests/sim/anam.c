/* SPDX-License-Identifier: MIT */
#include "anam.h"

#include <stdlib.h>
#include <string.h>

#include "common/json.h"
#include "common/xalloc.h"
#include "sdp.h"

#define ACTION_MAX 64

struct anam {
	char *session_id;
	json_t *out; /* frames that are due, oldest first */
};

struct anam *
anam_new(const char *session_id)
{
	struct anam *a = xcalloc(1, sizeof(*a));

	a->session_id = xstrdup(session_id);
	a->out = json_array();
	return a;
}

void
anam_free(struct anam *a)
{
	if (a == NULL)
		return;
	free(a->session_id);
	json_decref(a->out);
	free(a);
}

void
anam_say(struct anam *a, const char *action, json_t *payload)
{
	json_array_append_new(a->out,
	    json_pack("{s:s, s:s, s:o}", "actionType", action, "sessionId",
		a->session_id, "payload", payload));
}

json_t *
anam_next(struct anam *a)
{
	json_t *frame = json_incref(json_array_get(a->out, 0));

	json_array_remove(a->out, 0);
	return frame;
}

static void
receive_offer(struct anam *a, const json_t *frame)
{
	const json_t *payload = json_object_get(frame, "payload");
	const json_t *description =
	    json_object_get(payload, "connectionDescription");
	const char *type, *sdp;
	char *answer = NULL;

	if (json_get_string(description, "type", ACTION_MAX, &type) == ERR_OK &&
	    json_get_string(description, "sdp", SDP_MAX, &sdp) == ERR_OK &&
	    strcmp(type, "offer") == 0)
		answer = sdp_answer(sdp, strlen(sdp));
	if (answer == NULL) {
		anam_say(a, "warning", json_string("The offer is none."));
		return;
	}
	anam_say(a, "sessionready", json_object());
	anam_say(a, "answer",
	    json_pack("{s:s, s:s}", "type", "answer", "sdp", answer));
	free(answer);
}

void
anam_receive(struct anam *a, const void *data, size_t len)
{
	json_t *frame = NULL;
	const char *action;

	if (json_parse(data, len, &frame, NULL) != ERR_OK ||
	    json_get_string(frame, "actionType", ACTION_MAX, &action) != ERR_OK)
		anam_say(a, "warning", json_string("The frame is none."));
	else if (strcmp(action, "offer") == 0)
		receive_offer(a, frame);
	json_decref(frame);
}
