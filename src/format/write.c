/*-------------------------------------------------------------------------
 *
 * write.c
 *		Rows as text, csv, json and binary.
 *
 *		text		one column, a line each
 *		csv			as COPY writes it, with a dialect of the user's
 *		json		an object a line, by row_to_json()
 *		binary		COPY's binary format, with header and trailer
 *
 * Values are written by the output or send functions of their types, under the
 * settings (TimeZone, DateStyle …) that are in force.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "ddl/ddl.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "format/csv.h"
#include "format/decode.h"
#include "format/write.h"

typedef enum Kind
{
	KIND_TEXT,
	KIND_CSV,
	KIND_JSON,
	KIND_BINARY
} Kind;

struct SxRowWriter
{
	Kind		kind;
	TupleDesc	desc;
	FmgrInfo   *out;			/* output or send function of each column */
	int			encoding;
	bool		header;
	SxCsvDialect dialect;
};

static const char binary_signature[11] = "PGCOPY\n\377\r\n\0";

static Kind
kind_of(const char *format)
{
	if (strcmp(format, "text") == 0)
		return KIND_TEXT;
	if (strcmp(format, "csv") == 0)
		return KIND_CSV;
	return strcmp(format, "binary") == 0 ? KIND_BINARY : KIND_JSON;
}

/* ---------- at creation ---------- */

static void
check_options(const char *format, List *options)
{
	static const char *const of_csv[] = {"header", "delimiter", "quote", "escape", "null"};
	Kind		kind = kind_of(format);

	for (int i = 0; i < lengthof(of_csv) && kind != KIND_CSV; i++)
	{
		if (sx_option(options, of_csv[i]) != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"%s\" has no meaning in format \"%s\"", of_csv[i], format),
					 errhint("It is one of format csv: leave it out, or set format = 'csv'.")));
	}
	if (kind == KIND_BINARY && sx_option(options, "encoding") != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"encoding\" has no meaning in format \"binary\""),
				 errhint("Texts are in the encoding of the database; set client_encoding to it for COPY … FROM.")));
}

/* ERROR of the server when the type, or that of the array's elements, has no send function. */
static void
check_sendable(Oid type)
{
	Oid			element = get_element_type(type);
	Oid			function;
	bool		isvarlena;

	getTypeBinaryOutputInfo(OidIsValid(element) ? element : type, &function, &isvarlena);
}

void
sx_row_writer_check(const char *format, List *options, List *types)
{
	Kind		kind = kind_of(format);
	SxStream	stream = {.options = options,.label = "the sink"};
	SxCsvDialect dialect;
	ListCell   *lc;

	check_options(format, options);
	if (kind == KIND_TEXT && list_length(types) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("format \"text\" writes one column, but the query has %d", list_length(types)),
				 errhint("Make one column of them, as in SELECT concat_ws(' ', a, b), or use format csv or json.")));
	if (kind == KIND_CSV)
		sx_csv_dialect(&stream, &dialect);
	foreach(lc, types)
	{
		if (kind == KIND_BINARY)
			check_sendable(lfirst_oid(lc));
	}
}

/* ---------- creation ---------- */

static void
find_function(FmgrInfo *info, Oid type, bool binary)
{
	Oid			function;
	bool		isvarlena;

	if (binary)
		getTypeBinaryOutputInfo(type, &function, &isvarlena);
	else
		getTypeOutputInfo(type, &function, &isvarlena);
	fmgr_info(function, info);
}

SxRowWriter *
sx_row_writer_create(const char *format, List *options, TupleDesc desc)
{
	SxRowWriter *writer = palloc0(sizeof(SxRowWriter));
	SxStream	stream = {.options = options,.label = "the sink"};

	writer->kind = kind_of(format);
	writer->desc = desc;
	writer->out = palloc0(sizeof(FmgrInfo) * Max(desc->natts, 1));
	writer->encoding = sx_encoding_option(&stream, writer->kind == KIND_JSON ? PG_UTF8 :
										  GetDatabaseEncoding());
	writer->header = sx_stream_option_bool(&stream, "header", false);
	if (writer->kind == KIND_CSV)
		sx_csv_dialect(&stream, &writer->dialect);
	for (int i = 0; i < desc->natts && writer->kind != KIND_JSON; i++)
		find_function(&writer->out[i], TupleDescAttr(desc, i)->atttypid,
					  writer->kind == KIND_BINARY);
	return writer;
}

/* ---------- writing ---------- */

static void
append_line(const SxRowWriter *writer, StringInfo out, char *line, int len)
{
	char	   *converted = pg_server_to_any(line, len, writer->encoding);

	appendBinaryStringInfo(out, converted, converted == line ? len : strlen(converted));
	appendStringInfoChar(out, '\n');
}

static void
append_text(SxRowWriter *writer, StringInfo out, TupleTableSlot *slot)
{
	char	   *line;

	if (slot->tts_isnull[0])
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("cannot write NULL in format \"text\""),
				 errhint("Give it a value, as in coalesce(…, 'null'), or use format json.")));
	line = OutputFunctionCall(&writer->out[0], slot->tts_values[0]);
	append_line(writer, out, line, strlen(line));
}

static void
append_csv(SxRowWriter *writer, StringInfo out, TupleTableSlot *slot)
{
	StringInfoData line;

	initStringInfo(&line);
	for (int i = 0; i < writer->desc->natts; i++)
	{
		if (i > 0)
			appendStringInfoChar(&line, writer->dialect.delimiter);
		if (slot->tts_isnull[i])
			appendStringInfoString(&line, writer->dialect.null);
		else
			sx_csv_append_field(&line, &writer->dialect,
								OutputFunctionCall(&writer->out[i], slot->tts_values[i]));
	}
	append_line(writer, out, line.data, line.len);
}

static void
append_csv_header(SxRowWriter *writer, StringInfo out)
{
	StringInfoData line;

	initStringInfo(&line);
	for (int i = 0; i < writer->desc->natts; i++)
	{
		if (i > 0)
			appendStringInfoChar(&line, writer->dialect.delimiter);
		sx_csv_append_field(&line, &writer->dialect,
							NameStr(TupleDescAttr(writer->desc, i)->attname));
	}
	append_line(writer, out, line.data, line.len);
}

/*
 * A value of type json is taken over as it is, line breaks between its tokens
 * included; within strings there are none.
 */
char *
sx_row_to_json_line(TupleDesc desc, TupleTableSlot *slot)
{
	HeapTuple	tuple = heap_form_tuple(desc, slot->tts_values, slot->tts_isnull);
	char	   *line = TextDatumGetCString(DirectFunctionCall1(row_to_json,
															   HeapTupleGetDatum(tuple)));

	for (char *p = line; *p != '\0'; p++)
	{
		if (*p == '\n' || *p == '\r')
			*p = ' ';
	}
	return line;
}

static void
append_json(SxRowWriter *writer, StringInfo out, TupleTableSlot *slot)
{
	char	   *line = sx_row_to_json_line(writer->desc, slot);

	append_line(writer, out, line, strlen(line));
}

static void
append_binary(SxRowWriter *writer, StringInfo out, TupleTableSlot *slot)
{
	pq_sendint16(out, writer->desc->natts);
	for (int i = 0; i < writer->desc->natts; i++)
	{
		bytea	   *value;

		if (slot->tts_isnull[i])
		{
			pq_sendint32(out, (uint32) -1);
			continue;
		}
		value = SendFunctionCall(&writer->out[i], slot->tts_values[i]);
		pq_sendint32(out, VARSIZE(value) - VARHDRSZ);
		appendBinaryStringInfo(out, VARDATA(value), VARSIZE(value) - VARHDRSZ);
	}
}

void
sx_row_writer_begin(SxRowWriter *writer, StringInfo out)
{
	if (writer->kind == KIND_BINARY)
	{
		appendBinaryStringInfo(out, binary_signature, sizeof(binary_signature));
		pq_sendint32(out, 0);	/* flags */
		pq_sendint32(out, 0);	/* length of the header's extension */
	}
	else if (writer->kind == KIND_CSV && writer->header)
		append_csv_header(writer, out);
}

void
sx_row_writer_row(SxRowWriter *writer, StringInfo out, TupleTableSlot *slot)
{
	switch (writer->kind)
	{
		case KIND_TEXT:
			append_text(writer, out, slot);
			break;
		case KIND_CSV:
			append_csv(writer, out, slot);
			break;
		case KIND_JSON:
			append_json(writer, out, slot);
			break;
		case KIND_BINARY:
			append_binary(writer, out, slot);
			break;
	}
}

void
sx_row_writer_end(SxRowWriter *writer, StringInfo out)
{
	if (writer->kind == KIND_BINARY)
		pq_sendint16(out, (uint16) -1);
}
