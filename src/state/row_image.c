/*-------------------------------------------------------------------------
 *
 * row_image.c
 *		streamext.row_image(record): the bytes of a row's values.
 *
 * Two rows have the same image when no value differs in a single byte, as record_image_eq()
 * has it: 1.0 and 1.00 differ, as a sink must show what the view shows.  Types without
 * equality, as json, have images too.  Values are taken as they are when they are
 * neither compressed nor stored elsewhere.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/typcache.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(sx_row_image);

static void
append_value(StringInfo image, Form_pg_attribute att, Datum value)
{
	if (att->attbyval)
		appendBinaryStringInfo(image, (char *) &value, sizeof(Datum));
	else if (att->attlen > 0)
		appendBinaryStringInfo(image, DatumGetPointer(value), att->attlen);
	else if (att->attlen == -1)
	{
		struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);
		int32		length = VARSIZE_ANY_EXHDR(bytes);

		appendBinaryStringInfo(image, (char *) &length, sizeof(length));
		appendBinaryStringInfo(image, VARDATA_ANY(bytes), length);
	}
	else
		appendBinaryStringInfo(image, DatumGetCString(value), strlen(DatumGetCString(value)) + 1);
}

Datum
sx_row_image(PG_FUNCTION_ARGS)
{
	HeapTupleHeader row = PG_GETARG_HEAPTUPLEHEADER(0);
	TupleDesc	desc = lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(row),
											  HeapTupleHeaderGetTypMod(row));
	Datum	   *values = palloc(sizeof(Datum) * Max(desc->natts, 1));
	bool	   *nulls = palloc(sizeof(bool) * Max(desc->natts, 1));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(row),.t_data = row};
	StringInfoData image;

	heap_deform_tuple(&tuple, desc, values, nulls);
	initStringInfo(&image);
	for (int i = 0; i < desc->natts; i++)
	{
		appendStringInfoChar(&image, nulls[i] ? 'n' : 'v');
		if (!nulls[i])
			append_value(&image, TupleDescAttr(desc, i), values[i]);
	}
	ReleaseTupleDesc(desc);
	PG_RETURN_BYTEA_P(cstring_to_text_with_len(image.data, image.len));
}
