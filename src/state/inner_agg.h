/*-------------------------------------------------------------------------
 *
 * inner_agg.h
 *		An aggregate whose parts we call ourselves, and its stored states.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_INNER_AGG_H
#define SX_INNER_AGG_H

#include "fmgr.h"

typedef struct SxInnerAgg
{
	Oid			oid;
	Oid			collation;
	int			nargs;			/* aggregated arguments */
	Oid			transtype;
	int16		translen;
	bool		transbyval;
	Oid			resulttype;
	int16		resultlen;
	bool		resultbyval;
	bool		init_is_null;
	char	   *initval;
	uint32		hash;			/* of the signature, stamped on stored states */
	FmgrInfo	trans;
	FmgrInfo	combine;
	FmgrInfo	serial;			/* … function, or the type's send function */
	FmgrInfo	deserial;		/* … function, or the type's receive function */
	Oid			deserial_ioparam;
	bool		has_final;
	int			final_nargs;
	FmgrInfo	final;
} SxInnerAgg;

/* A state: SQL NULL is a value of it like any other. */
typedef struct SxAggValue
{
	Datum		value;
	bool		isnull;
} SxAggValue;

/* The type streamext.agg_state. */
extern Oid	sx_agg_state_type(void);

/*
 * Why the states of an aggregate cannot be stored, or NULL when they can.  A
 * phrase that follows "aggregate f(x)".
 */
extern const char *sx_inner_agg_problem(Oid aggregate);

/*
 * Loads what is needed to call it, in the current context.  ERROR when it cannot
 * be stored or the current user may not execute it.
 */
extern SxInnerAgg *sx_inner_agg_load(Oid aggregate, Oid collation);

/* The starting state, in the current context. */
extern SxAggValue sx_inner_agg_start(const SxInnerAgg *agg);

/* Between a state and its stored form; fcontext is the AggState to call with. */
extern bytea *sx_inner_agg_store(SxInnerAgg *agg, SxAggValue state, Node *fcontext);
extern SxAggValue sx_inner_agg_restore(SxInnerAgg *agg, bytea *stored, Node *fcontext);

#endif							/* SX_INNER_AGG_H */
