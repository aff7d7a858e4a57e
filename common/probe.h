/* SPDX-License-Identifier: MIT */
#ifndef COMMON_PROBE_H
#define COMMON_PROBE_H

/*
 * probe: what `culvertctl doctor' sends through the web server, so that the
 * broker can say whether it has arrived as it was.  Nothing of it is secret,
 * but for the id of a probe, which is good for PROBE_S seconds.
 */
#define PROBE_HEADER "X-Culvert-Probe" /* its value is the id */
#define PROBE_S	     60

#define PROBE_AUTHORIZATION "Bearer culvert-probe"
#define PROBE_COOKIE	    "culvert_probe=1"
#define PROBE_SUBPROTOCOL   "culvert-probe"
/* of the query, where PROBE_QUERY_VALUE is written otherwise */
#define PROBE_QUERY	  "culvert_probe=1%2B2"
#define PROBE_QUERY_NAME  "culvert_probe"
#define PROBE_QUERY_VALUE "1+2"

/* Asked for as PROBE_STREAM_TYPE: so many events, so far apart. */
#define PROBE_STREAM_TYPE "text/event-stream"
#define PROBE_EVENTS	  4
#define PROBE_INTERVAL_MS 150

/* The status of the answer where a WebSocket is asked for. */
#define PROBE_STATUS 409

#endif
