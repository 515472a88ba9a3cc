/*-------------------------------------------------------------------------
 *
 * state_table.h
 *		The state table of a stream within a batch: rows by key and by time.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_STATE_TABLE_H
#define SX_STATE_TABLE_H

#include "access/genam.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "nodes/execnodes.h"
#include "plan/state_spec.h"
#include "state/state_hints.h"
#include "state/state_keys.h"
#include "utils/relcache.h"
#include "utils/tuplesort.h"

/* Records that are looked ahead at once. */
#define SX_STATE_AHEAD	32

typedef struct SxStateTable
{
	MemoryContext context;		/* of the scans, whatever is current */
	Relation	rel;
	TupleDesc	desc;
	int			nkeys;			/* the first columns */
	Relation	index;			/* the unique one on the keys */
	ScanKey		skeys;			/* equality on all of them */
	IndexScanDesc scan;			/* that looks keys up; NULL until the first */
	TupleTableSlot *found;		/* what the last look-up or scan has found */
	EState	   *estate;
	ResultRelInfo *rinfo;
	TupleTableSlot *row;		/* to be written */
	TupleTableSlot *target;		/* carries the tid of the row that is replaced */

	/* state_lookup.c */
	SxHints    *hints;			/* NULL: look-ups go by the index */
	const SxKeys *keys;			/* how they are hashed and compared */
	BlockNumber nblocks;		/* when the table was opened */
	int			gathered;		/* pages */
	ItemPointerData written;	/* the row that was written last */
	ItemPointerData ahead[SX_STATE_AHEAD];
	uint64		found_bytes;	/* of the rows found by hints, … */
	uint64		nfound;			/* … and their number */

	/* state_compact.c */
	bool		leads;			/* rows that must leave their page are told where to go: */
	BlockNumber lead;
	Size		lead_room;		/* left there */
	int			lead_looks;
} SxStateTable;

/*
 * Opens the table, whose row lock the batch has.  There
 * is an active snapshot, under which rows are seen until the table is closed.  Everything
 * lives in the current context.
 */
extern SxStateTable *sx_state_open(Oid relid, const SxStateSpec *spec);
extern void sx_state_close(SxStateTable *table);

/*
 * … of a view, whose first columns are its keys; NULL: its indexes, its owner's own among
 * them, are not such that rows can be found by their keys and written without asking more.
 */
extern SxStateTable *sx_state_try_open(Oid relid, int nkeys);

/*
 * From now on what was written so far is seen.  No scan may be open, and the snapshot is
 * the active one.
 */
extern void sx_state_see_writes(SxStateTable *table);

/*
 * Lets look-ups use hints, which live as long as the step.  All keys that are looked
 * up are of these.
 */
extern void sx_state_use_hints(SxStateTable *table, SxHints *hints, const SxKeys *keys);

/* The row of a key, into table->found. */
extern bool sx_state_find(SxStateTable *table, const SxKey *key);

extern void sx_state_insert(SxStateTable *table, const Datum *values, const bool *nulls);
extern void sx_state_update(SxStateTable *table, ItemPointer tid, const Datum *values,
							const bool *nulls);
extern void sx_state_delete(SxStateTable *table, ItemPointer tid);

/* state_write.c: a row as it is in a slot; its new place is in the slot. */
extern void sx_state_replace(SxStateTable *table, ItemPointer tid, TupleTableSlot *slot);
extern void sx_state_add(SxStateTable *table, TupleTableSlot **slots, int n);

/* Every row, into table->found, in the order of the keys. */
extern IndexScanDesc sx_state_scan_begin(SxStateTable *table);
extern bool sx_state_scan_next(SxStateTable *table, IndexScanDesc scan);

/*
 * Rows whose time column, which is indexed, is in [from, upto], by that time and then
 * by key.  Each has one more column, its tid.  from: below it there is no row, but there
 * may be any number of index entries of rows that are gone.
 */
extern Tuplesortstate *sx_state_due(SxStateTable *table, AttrNumber column, TimestampTz from,
									TimestampTz upto, TupleTableSlot **slot);

/* Its lowest value; none is below "from".  DT_NOEND: there is no row. */
extern TimestampTz sx_state_lowest(SxStateTable *table, AttrNumber column, TimestampTz from);

/* Is there a row without a value in it? */
extern bool sx_state_has_null(SxStateTable *table, AttrNumber column);

/* ---------- state_lookup.c ---------- */

/* Pins a page of the table; and prunes it when it is time. */
extern Buffer sx_state_pin_page(SxStateTable *table, BlockNumber block);
extern Buffer sx_state_read_page(SxStateTable *table, BlockNumber block);

/* Is the row at that place visible, and that of the key?  Then it is table->found. */
extern bool sx_state_find_at(SxStateTable *table, const SxKey *key, ItemPointer tid);

/* As sx_state_find(), but false may mean that it is not known where the row is. */
extern bool sx_state_find_by_hint(SxStateTable *table, const SxKey *key);

/* The row of the key is table->found, which the index has found. */
extern void sx_state_learn(SxStateTable *table, const SxKey *key);

/* The row that was just inserted or updated is that of a key of this hash. */
extern void sx_state_remember(SxStateTable *table, uint32 hash);

/* Is the table so big that it is worth while to look ahead? */
extern bool sx_state_looks_ahead(const SxStateTable *table);

/* Up to SX_STATE_AHEAD keys of these hashes will be looked up. */
extern void sx_state_ahead(SxStateTable *table, const uint32 *hashes, int n);

/* A row that was looked up will be replaced; and, some rows later: soon. */
extern void sx_state_ahead_write(const SxStateTable *table, uint32 hash, const ItemPointerData *tid);
extern void sx_state_ahead_version(const SxStateTable *table, const ItemPointerData *tid);

#endif							/* SX_STATE_TABLE_H */
