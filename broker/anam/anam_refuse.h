/* SPDX-License-Identifier: MIT */
#ifndef BROKER_ANAM_REFUSE_H
#define BROKER_ANAM_REFUSE_H

#include <jansson.h>
#include <stddef.h>

#include "broker/anam/anam_vendor.h"
#include "broker/http/request.h"

/*
 * anam_refuse: how a request to Anam's HTTP interface is refused, and what of
 * that is logged.
 *
 * Our own failures, and why the vendor refuses, are for the log; what is the
 * client's is for the client, and for the log where it may be the
 * configuration that is wrong.
 */

/* The body of an error for Anam's SDKs (a request_error_form). */
json_t *anam_error(const char *code, const char *message);

/* For a reason of ours. */
void anam_refuse(struct request *req, enum err err, const struct diag *diag);

/* For the vendor's; persona: NULL where none was asked for. */
void anam_refuse_as(struct request *req, const struct anam_refusal *refusal,
    const char *persona, const struct diag *diag);

/* A text for the log, cut to size; "-" for NULL.  Returns out. */
const char *anam_escape(const char *text, char *out, size_t size);

#endif
