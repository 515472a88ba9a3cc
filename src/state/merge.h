/*-------------------------------------------------------------------------
 *
 * merge.h
 *		The batch of a view with one row a key.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_MERGE_H
#define SX_MERGE_H

#include "state/state_table.h"
#include "worker/batch.h"

extern const SxStepOps sx_merge_ops;

/* merge_rows.c: what becomes of a stored row and one of the batch, by the view's statement */
typedef struct SxMergeRule
{
	int			ncolumns;		/* of the state table */
	int			ngiven;			/* … that the batch has values for, the first ones */
	int			nkeys;			/* … of which these, the first ones, are keys */
	bool		touched;		/* the last column is the batch's time */
	List	   *set;			/* target list for all columns: OUTER_VAR is the stored row,
								 * INNER_VAR the batch's; NIL: rows stay as they are */
} SxMergeRule;

/* In that context; NULL: the statement is more than the rule can say. */
extern SxMergeRule *sx_merge_rule(const char *statement, MemoryContext context);

/*
 * Opens the state table for rows to be merged by the rule; NULL: something is there that
 * only the statement does justice to.  *keys: how its keys are hashed and compared.
 */
extern SxStateTable *sx_merge_open(const SxStep *step, const SxMergeRule *rule, SxKeys **keys);

/* Where the merged row appears, in slot merged, when econtext has the two rows. */
extern ProjectionInfo *sx_merge_projection(const SxMergeRule *rule, ExprContext *econtext,
										   TupleTableSlot *merged);

#endif							/* SX_MERGE_H */
