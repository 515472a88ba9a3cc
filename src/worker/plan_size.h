/*-------------------------------------------------------------------------
 *
 * plan_size.h
 *		For how many rows of a stream the statements of a batch are planned.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_PLAN_SIZE_H
#define SX_PLAN_SIZE_H

#include "worker/batch.h"

/* Rows that the planner shall expect of a stream. */
extern double sx_expected_rows(void);

/* Before a step runs: forgets its plan if that was made for another size of batch. */
extern void sx_fit_plan(SxPipeline *pl, SxStep *step);

#endif							/* SX_PLAN_SIZE_H */
