/*-------------------------------------------------------------------------
 *
 * source.h
 *		The interface of a source: where the records of a batch come from.
 *
 * One SxSource serves one stream within one pipeline.  Its life:
 *
 *		open ──> poll ──> load ──> committed ──┐
 *		          ^        │ ^                 │
 *		          │        └─┘ aborted         │
 *		          └────────────────────────────┘ … close
 *
 *	open		in a transaction; reads options, is given the committed
 *				positions.
 *	poll		outside any transaction, never blocks: fetches what is there into
 *				the source's own memory and says whether there is something to do.
 *				May be called again and again before a batch is cut.
 *	load		inside the batch's transaction, under the batch's snapshot: fixes
 *				the records of this batch and the positions behind them.  After an
 *				abort it is called again without a poll in between and must give
 *				the very same records.
 *	committed	the batch is committed: the records may be forgotten and their
 *				memory given back.  Outside any transaction.
 *	close		releases everything; also called on error paths, by a reset
 *				callback of the memory context that the source lives in.
 *
 * The source owns records and parts; readers treat them as constant between load
 * and committed, except for the max_event_time of a part, which the scan raises.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SOURCE_H
#define SX_SOURCE_H

#include "datatype/timestamp.h"
#include "fdw/stream.h"
#include "lib/stringinfo.h"
#include "source/record_buffer.h"
#include "utils/snapshot.h"

/* One partition of a source, as of the batch at hand. */
typedef struct SxPart
{
	char	   *name;			/* "0", or "topic/0" when there are several topics;
								 * "" for a source without partitions */
	int32		number;			/* what metadata 'partition' shows */
	char	   *topic;			/* what metadata 'topic' shows, or NULL */
	char	   *position;		/* jsonb text: as committed, before this batch; NULL:
								 * a partition never read */
	char	   *new_position;	/* jsonb text: behind this batch; NULL: unmoved */
	char	   *anchor;			/* jsonb text about the last record, or NULL */
	char	   *end;			/* jsonb text: newest position known, or NULL */
	int64		lag;			/* records behind, -1: unknown */
	int64		rows;			/* records of this batch */
	int64		saved_lag;		/* lag and idle as the catalog has them */
	bool		saved_idle;
	TimestampTz max_event_time; /* highest so far, this batch included;
								 * DT_NOBEGIN: none yet */
	bool		idle;			/* read to its end for idle_timeout: does not hold
								 * back the watermark */
} SxPart;

typedef struct SxPollRequest
{
	TimestampTz now;			/* the batch time if a batch is cut now */
	int64		max_rows;		/* of a batch */
	int64		max_bytes;
	int			max_files;		/* 0: no limit */
	bool		to_end;			/* step(): wait up to a few seconds for a source that
								 * has to connect first, so that the answer is what
								 * the source really holds */
} SxPollRequest;

typedef enum SxPollResult
{
	SX_POLL_NOTHING = 0,
	SX_POLL_DATA,				/* cut a batch (perhaps of no records: an empty file) */
	SX_POLL_POSITION			/* no records, but positions to commit (new partitions,
								 * offsets resolved): a transaction without a batch */
} SxPollResult;

typedef struct SxSource SxSource;

/* What a source says when a lane asks where it can begin (worker/lane_create.c). */
typedef struct SxLaneStart
{
	const char *shared;			/* jsonb text: where the pipeline is that it shall be
								 * merged into, for a source with a single part; NULL:
								 * it has not read yet */
	char	   *position;		/* where the lane begins; NULL: as a new pipeline does */
	char	   *missing;		/* a sentence: what of the past does not come back; NULL:
								 * nothing that is known */
} SxLaneStart;

typedef struct SxSourceOps
{
	const char *connector;		/* value of option "connector" */

	/*
	 * parts: what the catalog has, may be empty for a new pipeline.  The result
	 * lives in the current memory context; set ops, stream, parts, nparts.
	 */
	SxSource   *(*open) (SxStream *stream, int pipeline, SxPart *parts, int nparts);
	SxPollResult (*poll) (SxSource *source, const SxPollRequest *req);
	void		(*load) (SxSource *source, Snapshot snapshot);
	void		(*committed) (SxSource *source);
	void		(*close) (SxSource *source);

	/*
	 * Instead of "committed", with source->partial only: lets go of the batch, which was
	 * rolled back, and reads from the committed positions again, this time with all that
	 * a dead letter keeps.  Outside any transaction.
	 */
	void		(*read_whole) (SxSource *source);

	/*
	 * What to wait for when poll had nothing: sets *fd (or -1) to a descriptor that
	 * becomes readable, and returns milliseconds until the next poll is worth while
	 * (-1: only when woken).
	 */
	long		(*wait) (SxSource *source, int *fd);

	/*
	 * Remembers what the source holds now (for streamext.wait and run): jsonb text
	 * by partition name; and whether given positions have reached it.  May be NULL.
	 */
	bool		(*reached_end) (SxSource *source);

	/* Interactive SELECT outside a batch: load what is there now, bounded. */
	void		(*peek) (SxSource *source);

	/*
	 * Refuses columns, options or an owner that the connector cannot work with: called
	 * when the stream is created.  May be NULL.
	 */
	void		(*check) (SxStream *stream);

	/*
	 * What a dead letter keeps as the value of record i, for sources whose records
	 * have no bytes (those with get_row).  NULL for all others.
	 */
	void		(*dead_value) (SxSource *source, int i, StringInfo buf);

	/*
	 * What metadata 'topic' shows for record i, where it is not the same for the whole
	 * part: the name of the file.  May be NULL: the topic of the part.
	 */
	const char *(*record_topic) (SxSource *source, int i);

	/*
	 * For lanes, which read a stream beside the pipeline that they are merged into
	 * (worker/lane.c).  All NULL: what was read cannot be read again, or reading cannot
	 * be stopped at a given position.
	 *
	 * lane_start: called when a lane is made.  False: not with these options, and
	 * "missing" says why.
	 *
	 * limit: from now on nothing is read beyond these positions, which are those of the
	 * other pipeline.  Called in a transaction, before polls; a batch that is loaded
	 * stays what it is.  A partition that is not among them has not been read there.  It
	 * sets source->limited.
	 *
	 * at_limit: is the position behind the batch at hand, or the committed one when there
	 * is none, exactly there: has this pipeline read what the other one has, and no more?
	 * With poll's to_end, a limited source waits for its limit instead of the end.
	 */
	bool		(*lane_start) (SxStream *stream, SxLaneStart *start);
	void		(*limit) (SxSource *source, int pipeline, const SxPart *parts, int nparts);
	bool		(*at_limit) (SxSource *source);

	/*
	 * Can the stream be divided among several workers (stream->slots), so that each reads
	 * the partitions that sx_slot_reads() gives it?  False: *why says why not.  NULL: no.
	 */
	bool		(*divides) (const SxStream *stream, const char **why);

	/*
	 * Makes what belongs to a stream that has just been created and registered, such
	 * as a log table.  May be NULL.
	 */
	void		(*created) (SxStream *stream);

	/*
	 * Binds again what belongs to a stream that came with a dump, and translates what its
	 * positions say of the other cluster.  May be NULL.
	 */
	void		(*restored) (SxStream *stream);
} SxSourceOps;

struct SxSource
{
	const SxSourceOps *ops;
	SxStream   *stream;
	int			pipeline;		/* id, 0 when peeking */
	MemoryContext context;		/* lives as long as the source */
	SxPart	   *parts;
	int			nparts;
	int			all_parts;		/* of all workers together, as far as known; 0: not known */

	/* The batch, from load to committed. */
	SxRecord  **records;		/* in arrival order */
	int			nrecords;
	int64		nbytes;			/* of keys and values */

	/*
	 * For sources whose rows are rows already (queue, rate): the tuple of record
	 * i instead of bytes to decode.  NULL for all others.  When set, the scan calls
	 * it and no format is involved; records[i] still gives part, offset and the
	 * bytes for a dead letter.
	 */
	void		(*get_row) (SxSource *source, int i, Datum *values, bool *isnull);

	/* Nobody has tested those rows for what the stream does not allow. */
	bool		check_rows;

	/* A lane: nothing beyond its limit is read. */
	bool		limited;

	/* Records come without something that a dead letter keeps, see read_whole. */
	bool		partial;

	/* What goes wrong in poll is worth another try, whatever its SQLSTATE says. */
	bool		retry_poll;

	/* For streamext.pipelines: what is wrong at the moment, or NULL. */
	const char *status;
};

/*
 * For sources with a single, unnamed partition (source.c): a source of the given
 * size in the current memory context, with the committed position filled in; and
 * what committed() does with that part.
 */
extern SxSource *sx_source_create(Size size, const SxSourceOps *ops,
								  SxStream *stream, int pipeline,
								  const SxPart *parts, int nparts);
extern void sx_part_committed(SxPart *part);

/* What metadata 'topic' shows for a record of the batch, or NULL. */
extern const char *sx_record_topic(SxSource *source, int i);

/* dead_value of a source with get_row: the row as a JSON object. */
extern void sx_row_dead_value(SxSource *source, int i, StringInfo buf);

/* Where record i is, for messages: "partition …, offset …". */
extern char *sx_record_place(SxSource *source, int i);

/* A field of a position: a string, or a number's digits; NULL: not there. */
extern char *sx_position_field(const char *position, const char *field);
extern int64 sx_position_int(const char *position, const char *field, int64 dflt);

/* Milliseconds since 1970, as records have them. */
extern int64 sx_unix_ms(TimestampTz time);

/* Replaces a string of a part, in the source's context. */
extern void sx_part_set(SxSource *source, char **field, const char *value);

/* The batch's records are those of the buffer. */
extern void sx_source_show(SxSource *source, const SxRecordBuffer *buffer);

/*
 * For step(), between two looks at a condition: a moment, or until the latch is set or
 * an interrupt comes.  A worker never naps: it waits for what wait() names.
 */
extern void sx_nap(long ms);

/* By the name of the connector; NULL: unknown, or a sink only. */
extern const SxSourceOps *sx_source_find(const char *connector);

extern const SxSourceOps sx_source_kafka;
extern const SxSourceOps sx_source_file;
extern const SxSourceOps sx_source_rate;
extern const SxSourceOps sx_source_queue;
extern const SxSourceOps sx_source_socket;
extern const SxSourceOps sx_source_table;
extern const SxSourceOps sx_source_function;

#endif							/* SX_SOURCE_H */
