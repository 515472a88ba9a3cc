/*-------------------------------------------------------------------------
 *
 * scan_rows.h
 *		Scanning a stream whose rows are there already.
 *
 * Within a batch: the rows that the batch has made of a derived stream, or of a sink
 * for the function that it calls.  Outside: those that its query gives now.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SCAN_ROWS_H
#define SX_SCAN_ROWS_H

#include "executor/tuptable.h"
#include "worker/batch.h"

typedef struct SxRowScan SxRowScan;

/* worker/batch_rows.c; in the current context, rows must outlive the scan */
extern SxRowScan *sx_row_scan_begin(SxRows *rows);
extern void sx_row_scan_rescan(SxRowScan *scan);
extern bool sx_row_scan_next(SxRowScan *scan, TupleTableSlot *slot);
extern void sx_row_scan_end(SxRowScan *scan);

/*
 * scan.c: rows, or those of the whole batch (NULL), are about to go.  Scans of them that
 * are still open, as that of a cursor which a function left behind, give an error from
 * now on.
 */
extern void sx_scans_cut(const SxRows *rows);

/*
 * peek_rows.c: the rows of a derived stream outside a batch, evaluated as its owner.
 * ERROR when it has none then.
 */
extern SxRows *sx_peek_rows(Relation rel);

#endif							/* SX_SCAN_ROWS_H */
