/*-------------------------------------------------------------------------
 *
 * state_write.c
 *		Many rows of a state table, written without a statement around each.
 *
 * A row is replaced where it is known to stand, and new rows go to the heap a page at
 * a time.  Whatever index the table has is maintained, unless the new version is
 * on the page of the old one and no index has a column that changes (HOT).  What a
 * statement would do besides (triggers, checks, generated columns, row security) is not
 * done here: who calls has made sure that there is none of it.
 *
 * Nobody else writes these rows, as the batch holds the pipeline's progress row.  A superuser
 * may, all the same: then the batch has lost a conflict, and begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "compat.h"
#include "executor/executor.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "fdw/stream.h"
#include "state/state_compact.h"
#include "state/state_table.h"

static void
report_conflict(const SxStateTable *table, TM_Result result)
{
	if (result == TM_SelfModified)
		ereport(ERROR,
				(errcode(ERRCODE_CARDINALITY_VIOLATION),
				 errmsg("a key of state table %s was written twice by one command",
						sx_relation_label(RelationGetRelid(table->rel)))));
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("a row of state table %s was changed by another session",
					sx_relation_label(RelationGetRelid(table->rel))),
			 errdetail("Only streamext writes to it; the batch begins anew.")));
}

void
sx_state_replace(SxStateTable *table, ItemPointer tid, TupleTableSlot *slot)
{
	TM_FailureData failure;
	LockTupleMode lockmode;
	SxUpdateIndexes which;
	TM_Result	result;

	slot->tts_tableOid = RelationGetRelid(table->rel);
	sx_state_lead(table, tid);
	result = table_tuple_update(table->rel, tid, slot, GetCurrentCommandId(true),
								table->estate->es_snapshot, InvalidSnapshot, true, &failure,
								&lockmode, &which);
	if (result != TM_Ok)
		report_conflict(table, result);
	if (sx_update_concerns(which))
		(void) sx_update_index_tuples(table->rinfo, slot, table->estate, which);
	ResetPerTupleExprContext(table->estate);
}

void
sx_state_add(SxStateTable *table, TupleTableSlot **slots, int n)
{
	sx_state_lead(table, NULL);
	table_multi_insert(table->rel, slots, n, GetCurrentCommandId(true), 0, NULL);
	for (int i = 0; i < n; i++)
	{
		(void) sx_insert_index_tuples(table->rinfo, slots[i], table->estate);
		ResetPerTupleExprContext(table->estate);
	}
}
