/*-------------------------------------------------------------------------
 *
 * owner.h
 *		What follows the owner of a stream, view or sink.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_OWNER_H
#define SX_OWNER_H

#include "nodes/pg_list.h"

/*
 * The relations that have to change their owner together with this one, which may be any
 * relation; without itself.
 */
extern List *sx_owner_together(Oid relid);

/* Gives them to the owner that relid has now, with the rights of the current user. */
extern void sx_owner_give(List *relids, Oid relid);

/*
 * State tables, logs, hidden views and pipelines go to the owners of what they belong to.
 * ERROR when that leaves a pipeline with two owners, if that is to be checked.
 */
extern void sx_owner_follow(bool check);

#endif							/* SX_OWNER_H */
