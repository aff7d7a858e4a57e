/* SPDX-License-Identifier: MIT */
#ifndef SIM_FAULT_H
#define SIM_FAULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "request.h"

/* fault: what the knobs of a request ask of an open connection.  Pure. */
struct fault;

struct fault *fault_new(const struct request *request);
void fault_free(struct fault *fault);

enum fault_act {
	FAULT_NONE,
	FAULT_CLOSE, /* with fault_code() and fault_reason() */
	FAULT_DROP,
	FAULT_RESET,
	FAULT_STALL,
};

/* What is due after so many received messages. */
enum fault_act fault_due(const struct fault *fault, uint64_t messages);

int fault_code(const struct fault *fault);
const char *fault_reason(const struct fault *fault);

/* Milliseconds for which nothing is to be read after so many bytes. */
int fault_pause_ms(const struct fault *fault, size_t len);

/* A piece of a message that is to be sent. */
struct fault_piece {
	const uint8_t *data; /* valid until the next call */
	size_t len;
	bool binary, first, final;
};

/* The next one; false where there is none. */
bool fault_next(struct fault *fault, struct fault_piece *ret);

#endif
