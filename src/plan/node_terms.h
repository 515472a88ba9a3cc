/*-------------------------------------------------------------------------
 *
 * node_terms.h
 *		What node_terms.c finds and node_key.c chooses from.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_NODE_TERMS_H
#define SX_NODE_TERMS_H

#include "plan/node.h"

/* An expression over one node. */
typedef struct SxTerm
{
	SxNodeRef  *ref;
	Node	   *expr;			/* over the view as varno 1 */
	int			class;			/* terms of one class are equal */
} SxTerm;

/* A query within the queries around it. */
typedef struct SxTermBlock
{
	Query	   *query;
	struct SxTermBlock *parent;
} SxTermBlock;

typedef struct SxTermSearch
{
	List	   *refs;
	List	   *terms;
	int			nclasses;
} SxTermSearch;

/* Notes what the block and those in it read, and which terms are equal. */
extern void sx_search_terms(SxTermSearch *search, SxTermBlock *block, bool top);

/*
 * The term of an expression in the block; NULL: it is over none or several nodes, or has
 * no one value for an index.
 */
extern SxTerm *sx_find_term(SxTermSearch *search, SxTermBlock *block, Node *expr);

extern Node *sx_strip_relabel(Node *node);

#endif							/* SX_NODE_TERMS_H */
