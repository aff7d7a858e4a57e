/* SPDX-License-Identifier: MIT */
#include "ctl/table.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/str.h"
#include "common/xalloc.h"

#define CELL_BYTES 256

struct row {
	char *cells[TABLE_COLUMNS_MAX];
};

struct table {
	const struct table_column *columns;
	size_t column_count;
	struct row *rows;
	size_t row_count;
};

struct table *
table_new(const struct table_column *columns, size_t count)
{
	struct table *table = xcalloc(1, sizeof(*table));

	assert(count <= TABLE_COLUMNS_MAX);
	table->columns = columns;
	table->column_count = count;
	return table;
}

void
table_free(struct table *table)
{
	for (size_t i = 0; i < table->row_count; i++)
		for (size_t k = 0; k < table->column_count; k++)
			free(table->rows[i].cells[k]);
	free(table->rows);
	free(table);
}

void
table_add_row(struct table *table)
{
	table->rows = xreallocarray(table->rows, table->row_count + 1,
	    sizeof(table->rows[0]));
	table->rows[table->row_count++] = (struct row){ { NULL } };
}

void
table_put_words(struct table *table, size_t column, const char *text)
{
	char **cell = &table->rows[table->row_count - 1].cells[column];

	if (text == NULL || *text == '\0')
		return;
	free(*cell);
	*cell = xstrdup(text);
}

void
table_put(struct table *table, size_t column, const char *text)
{
	char escaped[CELL_BYTES];

	if (text != NULL)
		table_put_words(table, column,
		    str_escape(escaped, sizeof(escaped), text, strlen(text)));
}

void
table_put_number(struct table *table, size_t column, uint64_t number)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%" PRIu64, number);
	table_put(table, column, text);
}

/* 0: nothing is in it. */
static size_t
width_of(const struct table *table, size_t column)
{
	size_t width = 0, len;

	for (size_t i = 0; i < table->row_count; i++) {
		const char *cell = table->rows[i].cells[column];

		len = cell == NULL ? 0 : strlen(cell);
		width = len > width ? len : width;
	}
	len = strlen(table->columns[column].title);
	return width > 0 && len > width ? len : width;
}

static void
print_line(const struct table *table, char *const *cells, const size_t *widths,
    FILE *out)
{
	size_t blanks = 0; /* only before something */

	for (size_t k = 0; k < table->column_count; k++) {
		const char *text =
		    cells == NULL ? table->columns[k].title : cells[k];
		size_t len = text == NULL ? 0 : strlen(text);

		if (widths[k] == 0)
			continue;
		if (table->columns[k].right)
			blanks += widths[k] - len;
		if (len > 0) {
			(void)fprintf(out, "%*s%s", (int)blanks, "", text);
			blanks = 0;
		}
		if (!table->columns[k].right)
			blanks += widths[k] - len;
		blanks += 2;
	}
	(void)fputc('\n', out);
}

void
table_print(const struct table *table, FILE *out)
{
	size_t widths[TABLE_COLUMNS_MAX];

	for (size_t k = 0; k < table->column_count; k++)
		widths[k] = width_of(table, k);
	print_line(table, NULL, widths, out);
	for (size_t i = 0; i < table->row_count; i++)
		print_line(table, table->rows[i].cells, widths, out);
}
