/*-------------------------------------------------------------------------
 *
 * stream.h
 *		What the catalogs say about one source stream or sink: its columns,
 *		options, connector and format.
 *
 * An SxStream is a private copy, allocated in the caller's context and valid
 * until that context goes.  It does not follow later ALTERs: a worker starts
 * anew when its streams change.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STREAM_H
#define SX_STREAM_H

#include "access/tupdesc.h"
#include "nodes/pg_list.h"

struct SxSourceOps;
struct SxFormatOps;

/* Columns that do not come from the value (option "metadata" of a column). */
typedef enum SxMetadata
{
	SX_META_NONE = 0,
	SX_META_PARTITION,			/* integer */
	SX_META_OFFSET,				/* bigint */
	SX_META_KEY,				/* bytea, or text-like through input function */
	SX_META_TIMESTAMP,			/* timestamptz */
	SX_META_HEADERS,			/* jsonb */
	SX_META_TOPIC,				/* text */
	SX_META_RAW					/* bytea or text: the whole value */
} SxMetadata;

typedef struct SxColumn
{
	AttrNumber	attno;
	char	   *name;
	Oid			type;
	int32		typmod;
	Oid			base_type;		/* of a domain, else type */
	bool		dropped;
	bool		notnull;
	SxMetadata	metadata;
	char	   *path;			/* option "path", or NULL: the field "name" */
} SxColumn;

typedef struct SxStream
{
	Oid			relid;
	Oid			owner;
	bool		owner_is_superuser;	/* when it was loaded */
	char	   *schema;
	char	   *name;
	char	   *label;			/* schema-qualified, quoted */
	TupleDesc	tupdesc;
	int			natts;
	SxColumn   *columns;		/* natts of them, by attno - 1 */
	Oid			serverid;
	List	   *options;		/* DefElems: of the table, then of the server */
	const struct SxSourceOps *source;	/* NULL: a sink-only connector */
	const struct SxFormatOps *format;
	AttrNumber	event_time;		/* 0: none */
	Oid			event_time_type;
	bool		has_watermark;
	int64		watermark_delay;	/* microseconds */
	int64		max_future_skew;	/* microseconds; -1: no limit */
	bool		allow_special;	/* infinity and NaN are data, not errors */
	int			slot;			/* of a pipeline with several workers: which one this is … */
	int			slots;			/* … of how many; 0: who reads it reads all of it */
} SxStream;

/* Does this worker read the partition of that name, or is it another one's? */
extern bool sx_slot_reads(const SxStream *stream, const char *partition);
extern bool sx_slot_reads_file(const SxStream *stream, const char *path);

/* Loads a foreign table of ours; ERROR when relid is not one. */
extern SxStream *sx_stream_load(Oid relid);

/* Is relid a foreign table of the streamext wrapper? */
extern bool sx_is_stream_table(Oid relid);

/*
 * Option of the foreign table of a registered stream: source, derived or sink.  Users
 * cannot give it.
 */
#define SX_KIND_OPTION	"kind"

/* Does it come from a dump, and is it not registered (yet)? */
extern bool sx_is_restored_table(Oid relid);

/* Schema-qualified and quoted name of a relation, for messages. */
extern char *sx_relation_label(Oid relid);

/* Option values; a missing option gives the default. */
extern const char *sx_stream_option(const SxStream *stream, const char *name,
									const char *dflt);
extern bool sx_stream_option_bool(const SxStream *stream, const char *name,
								  bool dflt);
extern int64 sx_stream_option_int(const SxStream *stream, const char *name,
								  int64 dflt);

/*
 * Replaces the value of an option of the foreign table, as what a name meant when the
 * stream was created; not checked again.  The stream at hand stays as it was loaded.
 */
extern void sx_stream_set_option(const SxStream *stream, const char *name,
								 const char *value);

/* microseconds of an interval option without months; ERROR 22023 otherwise */
extern int64 sx_interval_option_usec(const char *option, const char *value);

#endif							/* SX_STREAM_H */
