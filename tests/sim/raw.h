/* SPDX-License-Identifier: MIT */
#ifndef SIM_RAW_H
#define SIM_RAW_H

#include <stdio.h>

#include "journal.h"
#include "request.h"
#include "stream.h"

/*
 * raw: a vendor that breaks the protocol: /raw/NAME.  It writes handshakes
 * and frames itself, so that it can write wrong ones, and notes the close
 * code it is answered with exactly as it came.
 */

/*
 * Serve one connection to its end, in the caller's thread.  seen are the
 * bytes that were already read from it after the head.
 */
void raw_serve(struct stream *stream, const struct request *request,
    struct record *record, const void *seen, size_t seen_len);

/* One line for each behaviour, for --help. */
void raw_list(FILE *out);

#endif
