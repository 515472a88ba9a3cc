/*-------------------------------------------------------------------------
 *
 * plan_size.c
 *		For how many rows of a stream the statements of a batch are planned.
 *
 * Plans are made once and kept, so they cannot follow the size of each batch.  Yet
 * no plan is good for all: a batch of one record should look up its row of a joined
 * table by the index, one of 50,000 should hash the table, and group in memory before
 * it sorts.  So there are three sizes.  A batch that is larger than its step's plan is
 * made for has it planned anew at once, which costs less than the batch.  One that is
 * smaller does so only after some others, so that sizes around a border do not
 * cost a plan each.
 *
 * Outside a batch nothing is known of what a stream holds: the size in between.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "executor/spi.h"
#include "worker/batch_internal.h"
#include "worker/plan_size.h"

#define SMALLER_BATCHES		16	/* before a plan for a smaller size is made */

typedef enum PlanSize
{
	SIZE_SMALL,
	SIZE_MIDDLE,
	SIZE_LARGE
} PlanSize;

/* Records of a batch up to which it is of a size, and rows that are then expected. */
static const int64 most_records[] = {256, 8192};
static const double expected_rows[] = {100, 10000, 50000};

static PlanSize
batch_size(const SxPipeline *pl)
{
	int64		records = 0;

	for (int i = 0; i < pl->ninputs; i++)
		records += pl->inputs[i].source->nrecords;
	return records <= most_records[SIZE_SMALL] ? SIZE_SMALL :
		records <= most_records[SIZE_MIDDLE] ? SIZE_MIDDLE : SIZE_LARGE;
}

double
sx_expected_rows(void)
{
	if (sx_current == NULL || sx_current->running_step < 0)
		return expected_rows[SIZE_MIDDLE];
	return expected_rows[sx_current->steps[sx_current->running_step].plan_size];
}

void
sx_fit_plan(SxPipeline *pl, SxStep *step)
{
	PlanSize	size = batch_size(pl);

	if (size < step->plan_size && step->apply != NULL && ++step->smaller < SMALLER_BATCHES)
		return;
	if (size >= step->plan_size || step->apply == NULL)
		step->smaller = 0;
	if (size == step->plan_size)
		return;
	if (step->apply != NULL)
		SPI_freeplan(step->apply);
	step->apply = NULL;
	step->plan_size = size;
	step->smaller = 0;
}
