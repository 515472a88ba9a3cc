/*-------------------------------------------------------------------------
 *
 * streamext.h
 *		Names and settings that every part of streamext shares.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMEXT_H
#define STREAMEXT_H

/* Schemas.  Window functions live in the schema chosen at CREATE EXTENSION. */
#define SX_SCHEMA			"streamext"
#define SX_STATE_SCHEMA		"streamext_state"
#define SX_SERVER			"streamext"	/* the built-in SERVER */
#define SX_FDW				"streamext"	/* the foreign-data wrapper */

/* Settings (defined in streamext.c) */
extern bool sx_enabled;				/* streamext.enabled: workers may run */
extern bool sx_create_stream_syntax;	/* streamext.create_stream_syntax */
extern int	sx_max_workers;			/* streamext.max_workers: pipeline workers
									 * of the whole server */
extern int	sx_helper_memory;		/* streamext.helper_memory, in kilobytes */
extern int	sx_kafka_rest_after;	/* streamext.kafka_rest_after, in ms; 0: never */
extern int	sx_insert_timeout;		/* streamext.insert_timeout, in milliseconds */
extern char *sx_allowed_hosts;		/* streamext.allowed_hosts: rules of
									 * source/allowed_hosts.h */
extern int	sx_state_cache;			/* streamext.state_cache, in kilobytes */
extern int	sx_batch_history;		/* streamext.batch_history: batches kept in
									 * streamext.batch per pipeline */

/* True once the library was loaded by shared_preload_libraries. */
extern bool sx_preloaded;

#endif							/* STREAMEXT_H */
