/* SPDX-License-Identifier: MIT */
#ifndef BROKER_MESSAGES_RESUME_H
#define BROKER_MESSAGES_RESUME_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/http/parked.h"
#include "broker/http/request.h"

/*
 * messages_resume: the routes that come back to an answer.
 *
 *   GET /api/v1/messages/stream  ?chat_id=: what runs, from Last-Event-ID
 *   GET /api/v1/messages/send    the same
 *   POST /api/v1/messages/stop   {chat_id?,message_id?}
 */
void messages_stream_handle(struct request *req);
void messages_stop_handle(struct request *req);

/*
 * Send to a client an answer of this owner, which is being made or was, from
 * its first event; where its events are kept no longer, its end alone, as the
 * store has it.  In the hub's thread, where `parked' has not begun.
 */
void messages_resume_from_start(struct parked *parked, const char *owner,
    const char *generation);

/* Hang up on whoever still reads what is over; once the jobs are done. */
void messages_resume_stop(void);

#endif
