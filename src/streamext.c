/*-------------------------------------------------------------------------
 *
 * streamext.c
 *		Library entry: settings and hooks.
 *
 * Loaded by shared_preload_libraries the library makes STREAM known to the
 * lexer, starts the launcher and chains the utility hook in every backend.
 * Loaded later, by the first use of one of its functions, it does the last of
 * these only: CREATE FOREIGN TABLE and step() work, nothing runs by itself.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "catalog/state_guard.h"
#include "ddl/ddl.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "source/rights.h"
#include "state/remember.h"
#include "streamext.h"
#include "utils/guc.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

bool		sx_enabled = true;
bool		sx_create_stream_syntax = true;
int			sx_max_workers = 8;
int			sx_helper_memory = 512 * 1024;
int			sx_kafka_rest_after = 60000;
int			sx_insert_timeout = 30000;
int			sx_state_cache = 64 * 1024;
int			sx_batch_history = 10000;
char	   *sx_allowed_hosts = "";
bool		sx_preloaded = false;

PGDLLEXPORT void _PG_init(void);

/*
 * streamext.enabled has two readers.  The launcher sees the server's value: off
 * stops every worker.  ALTER DATABASE … SET streamext.enabled = on, which CREATE
 * EXTENSION does, is the mark by which the launcher knows where to look; hence
 * not PGC_SIGHUP.
 */
static void
define_settings(void)
{
	DefineCustomBoolVariable("streamext.enabled",
							 "Lets the background workers of streamext run.",
							 "Turned off in the server's configuration it stops all of them within a second.",
							 &sx_enabled, true, PGC_SUSET, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("streamext.helper_memory",
							"Address space that one Kafka helper program may use.",
							NULL,
							&sx_helper_memory, 512 * 1024, 64 * 1024, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("streamext.kafka_rest_after",
							"How long nothing comes from Kafka before a helper program rests.",
							"It stands still then until a record comes. 0: it never does.",
							&sx_kafka_rest_after, 60000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomIntVariable("streamext.insert_timeout",
							"How long the commit of an INSERT into a Kafka stream waits for the brokers.",
							NULL,
							&sx_insert_timeout, 30000, 100, 3600 * 1000,
							PGC_USERSET, GUC_UNIT_MS,
							NULL, NULL, NULL);
	DefineCustomStringVariable("streamext.allowed_hosts",
							   "Hosts that streams of roles without superuser rights may connect to.",
							   "A list of names, patterns and networks, each with a port or without. "
							   "Empty: all but this host and its link.",
							   &sx_allowed_hosts, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY,
							   sx_check_allowed_hosts, NULL, NULL);
	DefineCustomIntVariable("streamext.state_cache",
							"Memory in which a stream with keyed state, or a view with one row a key, remembers where the rows of its keys are.",
							"Of each of them, in its pipeline's worker; 0: look-ups go by the index.",
							&sx_state_cache, 64 * 1024, 0, 16 * 1024 * 1024,
							PGC_SIGHUP, GUC_UNIT_KB,
							NULL, NULL, NULL);
	DefineCustomIntVariable("streamext.batch_history",
							"Batches of each pipeline that streamext.batches keeps.",
							NULL,
							&sx_batch_history, 10000, 10, INT_MAX,
							PGC_SIGHUP, 0,
							NULL, NULL, NULL);
}

/* Settings that size shared memory or take effect at server start only. */
static void
define_preload_settings(void)
{
	DefineCustomIntVariable("streamext.max_workers",
							"Pipelines that can run at the same time on this server.",
							"Each takes one of max_worker_processes, besides the launcher and one scheduler per database.",
							&sx_max_workers, 8, 1, 1024,
							PGC_POSTMASTER, 0,
							NULL, NULL, NULL);
	DefineCustomBoolVariable("streamext.create_stream_syntax",
							 "Understands CREATE, ALTER and DROP STREAM.",
							 "When off, streams are made by CREATE FOREIGN TABLE.",
							 &sx_create_stream_syntax, true, PGC_POSTMASTER, 0,
							 NULL, NULL, NULL);
}

void
_PG_init(void)
{
	define_settings();
	sx_preloaded = process_shared_preload_libraries_in_progress;
	if (sx_preloaded)
		define_preload_settings();
	MarkGUCPrefixReserved("streamext");

	if (IsBinaryUpgrade)
		return;

	sx_utility_init();
	sx_state_guard_init();
	sx_remember_init();
	if (sx_preloaded)
	{
		sx_worker_init();
		sx_keyword_init();
	}
}
