/* SPDX-License-Identifier: MIT */
#include "broker/tunnels/refusals.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "broker/http/address.h"
#include "common/xalloc.h"

#define PLACES 256

struct place {
	uint8_t network[ADDRESS_NETWORK_BYTES]; /* IPv4 with zeros behind it */
	bool used;
	int64_t since_ms, last_ms;
	unsigned count; /* since then */
};

struct refusals {
	struct place places[PLACES];
};

struct refusals *
refusals_new(void)
{
	return xcalloc(1, sizeof(struct refusals));
}

void
refusals_free(struct refusals *refusals)
{
	free(refusals);
}

/* The network's place; PLACES where it has none. */
static size_t
find(const struct refusals *refusals,
    const uint8_t network[ADDRESS_NETWORK_BYTES])
{
	size_t i = 0;

	while (i < PLACES &&
	    (!refusals->places[i].used ||
		memcmp(refusals->places[i].network, network,
		    ADDRESS_NETWORK_BYTES) != 0))
		i++;
	return i;
}

bool
refusals_reached(const struct refusals *refusals, const char *address,
    int64_t now_ms)
{
	uint8_t network[ADDRESS_NETWORK_BYTES];
	size_t i;

	address_network(address, network);
	i = find(refusals, network);
	return i < PLACES && refusals->places[i].count >= REFUSALS_MAX &&
	    now_ms - refusals->places[i].since_ms < REFUSALS_WINDOW_MS;
}

void
refusals_add(struct refusals *refusals, const char *address, int64_t now_ms)
{
	struct place *place;
	uint8_t network[ADDRESS_NETWORK_BYTES];
	size_t i;

	address_network(address, network);
	i = find(refusals, network);
	if (i == PLACES) {
		/* unused ones are the oldest of all */
		i = 0;
		for (size_t k = 1; k < PLACES; k++)
			if (refusals->places[k].last_ms <
			    refusals->places[i].last_ms)
				i = k;
		refusals->places[i] =
		    (struct place){ .used = true, .since_ms = now_ms };
		memcpy(refusals->places[i].network, network,
		    ADDRESS_NETWORK_BYTES);
	}
	place = &refusals->places[i];
	if (now_ms - place->since_ms >= REFUSALS_WINDOW_MS) {
		place->since_ms = now_ms;
		place->count = 0;
	}
	place->last_ms = now_ms;
	place->count++;
}
