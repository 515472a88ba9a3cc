/*-------------------------------------------------------------------------
 *
 * ordinal.h
 *		The ordinal of a record within its source's batch, as a ctid.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_ORDINAL_H
#define SX_ORDINAL_H

#include "storage/itemptr.h"

#define SX_ORDINAL_BITS 14		/* of it in the offset part, which counts from 1 */

static inline void
sx_ordinal_to_tid(int ordinal, ItemPointer tid)
{
	ItemPointerSet(tid, (BlockNumber) (ordinal >> SX_ORDINAL_BITS),
				   (OffsetNumber) ((ordinal & ((1 << SX_ORDINAL_BITS) - 1)) + 1));
}

static inline int
sx_tid_to_ordinal(ItemPointer tid)
{
	return (int) (ItemPointerGetBlockNumberNoCheck(tid) << SX_ORDINAL_BITS) +
		ItemPointerGetOffsetNumberNoCheck(tid) - 1;
}

#endif							/* SX_ORDINAL_H */
