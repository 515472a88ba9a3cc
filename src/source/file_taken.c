/*-------------------------------------------------------------------------
 *
 * file_taken.c
 *		Rows of streamext.file_taken: the files that a stream has taken.
 *
 * A row is written by the transaction of the batch that begins the file, whether or not
 * it takes all of it.  file_clean.c deletes rows.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "source/file_taken.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "worker/batch.h"

typedef struct Reading
{
	SxFileFunc	each;
	void	   *arg;
} Reading;

static void
read_row(HeapTuple row, TupleDesc desc, void *arg)
{
	Reading    *reading = arg;
	SxFile		file = {
		.name = sx_row_text(row, desc, 1),
		.size = sx_row_int(row, desc, 2, 0),
		.mtime = sx_row_time(row, desc, 3)
	};

	reading->each(&file, reading->arg);
	pfree(unconstify(char *, file.name));
}

void
sx_file_taken_read(int pipeline, Oid stream, SxFileFunc each, void *arg)
{
	Reading		reading = {.each = each, .arg = arg};
	Oid			types[] = {INT4OID, REGCLASSOID};
	Datum		values[] = {Int32GetDatum(pipeline), ObjectIdGetDatum(stream)};

	sx_catalog_rows("SELECT name, size, mtime FROM streamext.file_taken "
					"WHERE pipeline = $1 AND stream = $2 ORDER BY batch_id, mtime, name",
					lengthof(types), types, values, NULL, read_row, &reading);
}

void
sx_file_taken_write(int pipeline, Oid stream, const SxFile *files, int n)
{
	Datum	   *names = palloc(sizeof(Datum) * n);
	Datum	   *sizes = palloc(sizeof(Datum) * n);
	Datum	   *mtimes = palloc(sizeof(Datum) * n);
	Oid			types[] = {INT4OID, REGCLASSOID, INT8OID,
	TEXTARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum		values[lengthof(types)];

	for (int i = 0; i < n; i++)
	{
		names[i] = CStringGetTextDatum(files[i].name);
		sizes[i] = Int64GetDatum(files[i].size);
		mtimes[i] = TimestampTzGetDatum(files[i].mtime);
	}
	values[0] = Int32GetDatum(pipeline);
	values[1] = ObjectIdGetDatum(stream);
	values[2] = Int64GetDatum(sx_current != NULL ? sx_current->batch_id + 1 : 0);
	values[3] = PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
	values[4] = PointerGetDatum(construct_array(sizes, n, INT8OID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[5] = PointerGetDatum(construct_array(mtimes, n, TIMESTAMPTZOID, sizeof(int64),
												FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	sx_catalog_exec("INSERT INTO streamext.file_taken "
					"(pipeline, stream, batch_id, name, size, mtime) "
					"SELECT $1, $2, $3, f.* FROM unnest($4, $5, $6) f",
					lengthof(types), types, values, NULL);
}
