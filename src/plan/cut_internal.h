/*-------------------------------------------------------------------------
 *
 * cut_internal.h
 *		What the files plan/cut*.c share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_CUT_INTERNAL_H
#define SX_CUT_INTERNAL_H

#include "plan/node.h"

/* A part of FROM that becomes a node. */
typedef struct SxLeaf
{
	Node	   *subtree;		/* of the jointree */
	Bitmapset  *relids;			/* what is in it */
	bool		nullable;		/* no condition above may move into it */
	bool		alone;			/* it is the whole FROM */
	Query	   *query;			/* of the node */
	Index		varno;			/* of the node, above */
	List	   *wholes;			/* expressions that it computes, not only columns */
	const char *keep;			/* reduce.c: the rows that it must keep; NULL: all */
} SxLeaf;

/* ---------- cut_reads.c ---------- */

/* ERROR: it cannot be kept. */
extern void sx_cut_refuse(const char *message, const char *hint);

/* Does it read a stream or a continuous view? */
extern bool sx_reads_node(Node *node);

/* … in a subquery of an expression? */
extern bool sx_reads_node_in_sublink(Node *node);

/* The range table entries in a part of FROM. */
extern Bitmapset *sx_relids_of(Node *subtree);

/* 0: reads tables only; 1: row by row over one stream; -1: neither. */
extern int	sx_subtree_streams(Query *query, Node *subtree);

/* What an entry was is out of reach. */
extern void sx_blank_entry(RangeTblEntry *rte);

/* ---------- cut_expand.c ---------- */

/* In place; parent: the queries around it, or NULL */
extern void sx_expand_query(Query *query, const SxLevel *parent);

/* ---------- cut_leaf.c ---------- */

/* Expressions by which the query groups: computed when the row arrives, as SRFs must be. */
extern List *sx_key_expressions(Query *query);

/* moved: pairs of a leaf and a condition that it tests */
extern void sx_replace_leaf(Query *query, SxLeaf *leaf, List *moved, SxNodeMaker *maker);

#endif							/* SX_CUT_INTERNAL_H */
