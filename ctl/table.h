/* SPDX-License-Identifier: MIT */
#ifndef CTL_TABLE_H
#define CTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/*
 * table: rows of text in aligned columns, for people.
 *
 * What is put in is printed as one line of visible ASCII, whatever it is: a
 * client's bytes do nothing to a terminal.  A column in which nothing was put
 * is not printed.
 */
#define TABLE_COLUMNS_MAX 16

struct table_column {
	const char *title;
	bool right; /* numbers */
};

struct table;

/* The columns are the caller's and outlive the table. */
struct table *table_new(const struct table_column *columns, size_t count);
void table_free(struct table *table);

/* Begin another row, of empty cells. */
void table_add_row(struct table *table);

/* Fill in a cell of the last row; NULL and "" leave it empty. */
void table_put(struct table *table, size_t column, const char *text);
void table_put_number(struct table *table, size_t column, uint64_t number);

/* The same with words that are printable and ours: blanks stay. */
void table_put_words(struct table *table, size_t column, const char *text);

void table_print(const struct table *table, FILE *out);

#endif
