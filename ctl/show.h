/* SPDX-License-Identifier: MIT */
#ifndef CTL_SHOW_H
#define CTL_SHOW_H

#include <jansson.h>
#include <stdio.h>

/* show: the broker's answers, for people.  What is not there is left out. */

/* What `list' is answered with. */
void show_sessions(const json_t *answer, FILE *out);

/* What `report' is answered with. */
void show_usage(const json_t *answer, FILE *out);

/* What `top_up' and `balance' are answered with. */
void show_account(const json_t *answer, FILE *out);

/* What `budgets' is answered with. */
void show_budgets(const json_t *answer, FILE *out);

/* What `revoke' is answered with, with a kind and without one. */
void show_revoked(const json_t *answer, FILE *out);
void show_revocations(const json_t *answer, FILE *out);

#endif
