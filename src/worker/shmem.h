/*-------------------------------------------------------------------------
 *
 * shmem.h
 *		What launcher, schedulers, workers and sessions share.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_SHMEM_H
#define SX_SHMEM_H

#include "datatype/timestamp.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "worker/home.h"
#include "worker/worker.h"

typedef enum SxProcessKind
{
	SX_PROCESS_NONE = 0,		/* the slot is free */
	SX_PROCESS_SCOUT,
	SX_PROCESS_SCHEDULER,
	SX_PROCESS_WORKER,
	SX_PROCESS_RECEIVER
} SxProcessKind;

/*
 * One process.  Reserved by who starts it, attached by the process itself, freed
 * when that exits.  A slot that was reserved and never attached is reserved anew
 * after SX_ATTACH_TIMEOUT_MS; the generation tells the late comer.
 */
typedef struct SxSlot
{
	SxProcessKind kind;
	Oid			database;
	int			pipeline;		/* of a worker; of a receiver: Oid of its stream */
	int			worker;			/* which slot of the pipeline it runs */
	uint32		generation;
	TimestampTz reserved_at;
	PGPROC	   *proc;			/* NULL: not attached yet */
	bool		look;			/* read the catalog again */
	bool		send;			/* of a scheduler: look into the outbox */
	SxWorkerStatus status;		/* of a worker or receiver */
	TimestampTz rate_at;		/* … when rows_per_second was true */
	uint64		ends_wanted;	/* questions of wait(), and … */
	uint64		ends_reached;	/* … the last one that is answered */
} SxSlot;

#define SX_ATTACH_TIMEOUT_MS	10000

/* A database in which the extension runs. */
typedef struct SxMark
{
	Oid			database;		/* InvalidOid: free */
	uint64		number;			/* of SxShared.marks_made when it was made */
	TimestampTz held_until;		/* nothing runs there before: see database.c */
} SxMark;

/* All of it is protected by lock, but what does not change after start. */
typedef struct SxShared
{
	LWLock	   *lock;
	PGPROC	   *launcher;		/* NULL: not running */
	bool		enabled;		/* the launcher's streamext.enabled */
	bool		hurry;			/* something changed: launcher, forget back-offs */
	SxHome		home;			/* may anything run in this data directory? */
	bool		lacks_process;	/* max_worker_processes kept the launcher waiting */
	uint64		scans_wanted;	/* scouts asked for, and … */
	uint64		scans_done;		/* … the last one that has answered */
	uint64		marks_made;
	int			nmarks;
	int			nslots;
	SxMark	   *marks;
	SxSlot		slots[FLEXIBLE_ARRAY_MEMBER];
} SxShared;

/* NULL unless the library was preloaded. */
extern SxShared *sx_shared;

/* This process's slot, NULL in sessions and the launcher. */
extern SxSlot *sx_my_slot;

extern void sx_shmem_init(void);

/* Slots */
typedef enum SxReserve
{
	SX_RESERVED,
	SX_RESERVE_BUSY,			/* such a process is there or on its way */
	SX_RESERVE_FULL				/* streamext.max_workers are running */
} SxReserve;

extern SxReserve sx_slot_reserve(SxProcessKind kind, Oid database, int pipeline, int worker,
								 int *slot, uint32 *generation);
extern void sx_slot_release(int slot, uint32 generation);
extern bool sx_slot_attach(int slot, uint32 generation);
extern bool sx_slot_exists(SxProcessKind kind, Oid database, int pipeline, int worker);

/* Sets the latches of matching processes; InvalidOid, 0: any. */
extern void sx_slots_wake(SxProcessKind kind, Oid database, int pipeline, bool look);
extern void sx_launcher_wake(bool hurry);
extern void sx_sender_wake(Oid database);

/* SIGTERM to all processes of a database, InvalidOid: of all.  How many there are. */
extern int	sx_slots_count(Oid database);
extern void sx_slots_terminate(Oid database);

/* For the process in sx_my_slot */
extern bool sx_must_stop(void);
extern bool sx_must_look(void);
extern bool sx_must_send(void);

/* Marks */
extern bool sx_mark_add(Oid database);
extern void sx_mark_remove(Oid database);
extern bool sx_mark_exists(Oid database);
extern bool sx_marks_any(void);
extern bool sx_mark_held(Oid database);
extern void sx_mark_hold(Oid database, int ms);
extern void sx_marks_replace(const Oid *databases, int n, uint64 marks_before);

#endif							/* SX_SHMEM_H */
