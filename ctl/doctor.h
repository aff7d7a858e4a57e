/* SPDX-License-Identifier: MIT */
#ifndef CTL_DOCTOR_H
#define CTL_DOCTOR_H

#include <jansson.h>
#include <stdio.h>

#include "ctl/web.h"

/*
 * doctor: what is wrong between a browser and the broker, found out through the
 * web server by requests that the broker knows (common/probe.h).
 */

/*
 * The origin of a URL, as browsers write it: of http or https, with a host,
 * perhaps a port and a "/", and nothing else.  NULL: it is none.  The caller
 * frees it.
 */
char *doctor_origin(const char *url);

/*
 * Examine a site; probe is the broker's answer to WIRE_PROBE.  The caller
 * decrefs the report: {"url","ok","checks":[{"check","result","text",
 * "advice"?}]}, where a result is "ok", "warning" or "fail", and ok is false
 * where one has failed.
 */
json_t *doctor_examine(const struct web_site *site, const json_t *probe);

/* For people. */
void doctor_show(const json_t *report, FILE *out);

#endif
