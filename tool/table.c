// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tables for people and JSON for programs, from one description.
 */
#include <ctype.h>
#include <err.h>
#include <libsmartcols/libsmartcols.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

struct table {
	const char *name;
	const struct column *columns;
	struct libscols_table *scols;
	bool json;
	bool empty;
};

static void *needed(void *p)
{
	if (!p)
		errx(EXIT_FAILED, "out of memory");
	return p;
}

static bool is_shown(const struct table *table, const struct column *column)
{
	return column->where & (table->json ? IN_JSON : IN_TABLE);
}

static void add_column(struct table *table, const struct column *column)
{
	struct libscols_column *scols;
	char name[32];
	size_t n;

	for (n = 0; n < sizeof(name) - 1 && column->name[n]; n++)
		name[n] = table->json ? column->name[n] :
					toupper(column->name[n]);
	name[n] = '\0';
	scols = needed(
		scols_table_new_column(table->scols, name, 0, column->flags));
	scols_column_set_json_type(scols, column->json);
	if (column->flags & SCOLS_FL_WRAP)
		scols_column_set_whint(scols, 0.3);
}

/**
 * table_new() - begin a table
 * @name: its name in JSON
 * @columns: its columns, up to one without a name
 * @json: make JSON of it
 *
 * Return: the table, which table_print() frees
 */
struct table *table_new(const char *name, const struct column *columns,
			bool json)
{
	struct table *table = needed(calloc(1, sizeof(*table)));

	table->name = name;
	table->columns = columns;
	table->json = json;
	table->empty = true;
	table->scols = needed(scols_new_table());
	scols_table_set_name(table->scols, name);
	scols_table_enable_json(table->scols, json);
	for (; columns->name; columns++) {
		if (is_shown(table, columns))
			add_column(table, columns);
	}
	return table;
}

/**
 * table_line() - add a line to a table
 * @table: the table
 * @parent: line that it belongs below, or NULL
 *
 * Return: the line, for table_set()
 */
void *table_line(struct table *table, void *parent)
{
	table->empty = false;
	return needed(scols_table_new_line(table->scols, parent));
}

/* Length of the character that a text begins with, or 0 if it is none in UTF-8 */
static size_t utf8_length(const char *text)
{
	static const unsigned int least[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *c = (const unsigned char *)text;
	size_t n = *c < 0x80	   ? 1 :
		   *c >> 5 == 0x06 ? 2 :
		   *c >> 4 == 0x0e ? 3 :
		   *c >> 3 == 0x1e ? 4 :
				     0;
	unsigned int code = *c & (n > 1 ? 0x7f >> n : 0x7f);

	for (size_t i = 1; i < n; i++) {
		if (c[i] >> 6 != 2)
			return 0;
		code = code << 6 | (c[i] & 0x3f);
	}
	/* None may be longer than need be, a half of a pair, or too large */
	if (n && (code < least[n] || code >> 11 == 0x1b || code > 0x10ffff))
		return 0;
	return n;
}

/* JSON has to be UTF-8, and its numbers decimal; files may hold anything. */
static void make_fit(char *text, int json)
{
	size_t digits = strspn(text, "0123456789");

	if (json == SCOLS_JSON_NUMBER &&
	    (text[digits] || (text[0] == '0' && digits > 1)))
		text[0] = '\0';
	while (*text) {
		size_t n = utf8_length(text);

		if (!n)
			*text = '?';
		text += n ?: 1;
	}
}

/**
 * table_set() - put something in a line
 * @table: the table
 * @line: the line
 * @column: name of the column; when it is not shown, nothing is done
 * @format: as for printf(); what is empty, or no number where there has to be one,
 *	    is null in JSON
 */
void table_set(struct table *table, void *line, const char *column,
	       const char *format, ...)
{
	const struct column *it;
	va_list args;
	size_t n = 0;
	char *text;

	for (it = table->columns; it->name; it++) {
		if (!is_shown(table, it))
			continue;
		if (!strcmp(it->name, column))
			break;
		n++;
	}
	if (!it->name)
		return;

	va_start(args, format);
	if (vasprintf(&text, format, args) < 0)
		text = NULL;
	va_end(args);
	make_fit(needed(text), it->json);
	if (scols_line_refer_data(line, n, text))
		errx(EXIT_FAILED, "out of memory");
}

/* libsmartcols makes an object of each table; here they are parts of one. */
static void print_json(const struct table *table, bool last)
{
	const char *end = last ? "\n" : ",\n";
	char *text, *from, *to;

	if (table->empty) {
		printf("   \"%s\": []%s", table->name, end);
		return;
	}
	if (scols_print_table_to_string(table->scols, &text))
		errx(EXIT_FAILED, "out of memory");
	from = strchr(text, '{');
	to = strrchr(text, '}');
	if (!from || !to)
		errx(EXIT_FAILED, "libsmartcols printed no JSON");
	for (from++; isspace(*from); from++)
		;
	while (isspace(to[-1]))
		to--;
	printf("   %.*s%s", (int)(to - from), from, end);
	free(text);
}

static void print_table(const struct table *table, bool first)
{
	if (table->empty)
		return;
	if (!first)
		putchar('\n');
	scols_print_table(table->scols);
}

/**
 * table_print() - print tables, and free them
 * @tables: the tables
 * @count: how many
 * @json: print one JSON object that has them all
 * @flag: name of something that is true or false, for JSON, or NULL
 * @value: which of the two
 */
void table_print(struct table *const *tables, size_t count, bool json,
		 const char *flag, bool value)
{
	bool first = true;

	if (json)
		puts("{");
	if (json && flag)
		printf("   \"%s\": %s,\n", flag, value ? "true" : "false");
	for (size_t i = 0; i < count; i++) {
		if (json)
			print_json(tables[i], i == count - 1);
		else
			print_table(tables[i], first);
		first = first && tables[i]->empty;
		scols_unref_table(tables[i]->scols);
		free(tables[i]);
	}
	if (json)
		puts("}");
}
