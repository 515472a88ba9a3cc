/*-------------------------------------------------------------------------
 *
 * home.c
 *		Keeps a copy of a data directory from doing its original's work.
 *
 * A base backup, a clone for tests or a restored archive has the pipelines of its
 * original, running, and would read the same topics and write to the same ones.  So
 * pipelines belong to a data directory: the file streamext.home in it names the
 * inode of the file PG_VERSION and the time at which that was made, which no copy
 * keeps.  (The time of its last change stands in where a filesystem knows no other.
 * The device is left out, as its number may change when the machine starts anew.)
 *
 *		file absent				the first mark of a database makes it: a new server,
 *								or one that pg_upgrade has made
 *		file fits				pipelines run
 *		file does not fit
 *		  recovery has ended by promotion	a standby, which is a copy by nature, has
 *								taken over: the file is written anew
 *		  else					nothing runs until streamext.adopt()
 *
 * The launcher decides that once, when it starts.  A server that is promoted and crashes
 * before that moment stays stopped: better than twice.  The file goes when the last
 * mark has gone, so DROP EXTENSION leaves none.
 *
 * What cannot be told from a move is a copy of a whole volume, below the filesystem.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "worker/home.h"
#include "worker/process.h"

PG_FUNCTION_INFO_V1(sx_adopt);

#define HOME_FILE		"streamext.home"
#define HOME_TEMP		"streamext.home.tmp"
#define WITNESS			"PG_VERSION"

/* What no copy of the file WITNESS has in common with it.  Times in nanoseconds. */
typedef struct Identity
{
	unsigned long long inode;
	unsigned long long born;	/* 0: the filesystem does not say */
	unsigned long long changed;
} Identity;

typedef enum HomeFile
{
	FILE_ABSENT,
	FILE_FITS,
	FILE_DIFFERS				/* or cannot be read */
} HomeFile;

static bool file_exists = false;	/* in the launcher: as it left it */

static unsigned long long
nanoseconds(long long seconds, long ns)
{
	return (unsigned long long) seconds * 1000000000 + ns;
}

static Identity
identity_now(void)
{
	Identity	result = {0};

#ifdef STATX_BTIME
	struct statx sx;

	if (statx(AT_FDCWD, WITNESS, 0, STATX_INO | STATX_BTIME | STATX_CTIME, &sx) == 0)
	{
		result.inode = sx.stx_ino;
		result.changed = nanoseconds(sx.stx_ctime.tv_sec, sx.stx_ctime.tv_nsec);
		if (sx.stx_mask & STATX_BTIME)
			result.born = nanoseconds(sx.stx_btime.tv_sec, sx.stx_btime.tv_nsec);
		return result;
	}
#endif
	{
		struct stat st;

		if (stat(WITNESS, &st) != 0)
			ereport(ERROR,
					(errcode_for_file_access(),
					 errmsg("could not stat file \"%s\": %m", WITNESS)));
		result.inode = st.st_ino;
		result.changed = nanoseconds(st.st_ctime, 0);
	}
	return result;
}

static bool
same_identity(const Identity *a, const Identity *b)
{
	if (a->inode != b->inode)
		return false;
	if (a->born != 0 && b->born != 0)
		return a->born == b->born;
	return a->changed == b->changed;
}

static HomeFile
read_file(void)
{
	FILE	   *file = AllocateFile(HOME_FILE, "r");
	Identity	written;
	Identity	now;
	int			fields;

	if (file == NULL && errno == ENOENT)
		return FILE_ABSENT;
	if (file == NULL)
	{
		ereport(WARNING,
				(errcode_for_file_access(),
				 errmsg("could not read file \"%s\": %m", HOME_FILE)));
		return FILE_DIFFERS;
	}
	fields = fscanf(file, "%*[^\n]\ninode %llu\nborn %llu\nchanged %llu",
					&written.inode, &written.born, &written.changed);
	FreeFile(file);
	if (fields != 3)
		return FILE_DIFFERS;
	now = identity_now();
	return same_identity(&written, &now) ? FILE_FITS : FILE_DIFFERS;
}

/* Durable when it returns true.  A failure is reported at the level given. */
static bool
write_file(int elevel)
{
	Identity	now = identity_now();
	FILE	   *file = AllocateFile(HOME_TEMP, "w");
	bool		good = file != NULL;
	int			saved_errno = errno;

	if (good)
	{
		good = fprintf(file, "# Pipelines of streamext run in the data directory in which this fits: see streamext.adopt()\n"
					   "inode %llu\nborn %llu\nchanged %llu\n",
					   now.inode, now.born, now.changed) > 0 &&
			fflush(file) == 0 && pg_fsync(fileno(file)) == 0;
		saved_errno = errno;
		(void) FreeFile(file);
	}
	if (!good)
	{
		errno = saved_errno;
		ereport(elevel,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", HOME_TEMP)));
		return false;
	}
	return durable_rename(HOME_TEMP, HOME_FILE, elevel) == 0;
}

static void
set_home(SxHome home)
{
	LWLockAcquire(sx_shared->lock, LW_EXCLUSIVE);
	sx_shared->home = home;
	LWLockRelease(sx_shared->lock);
}

SxHome
sx_home(void)
{
	SxHome		home;

	LWLockAcquire(sx_shared->lock, LW_SHARED);
	home = sx_shared->home;
	LWLockRelease(sx_shared->lock);
	return home;
}

void
sx_home_open(void)
{
	HomeFile	found = read_file();
	SxHome		home = found == FILE_DIFFERS ? SX_HOME_COPY : SX_HOME_OURS;

	file_exists = found != FILE_ABSENT;
	if (home == SX_HOME_COPY && PromoteIsTriggered())
	{
		ereport(LOG,
				(errmsg("pipelines of streamext run on this server, which was promoted")));
		(void) write_file(WARNING);
		home = SX_HOME_OURS;
	}
	set_home(home);
	if (home == SX_HOME_COPY)
		ereport(WARNING,
				(errmsg("pipelines of streamext do not run: this data directory is a copy, or was moved"),
				 errhint(SX_COPY_HINT)));
}

/* The file is there when there is a mark, and only then. */
void
sx_home_tend(bool any_marks, bool marks_known)
{
	if (any_marks && !file_exists)
		file_exists = write_file(WARNING);
	else if (!any_marks && marks_known && file_exists)
	{
		if (durable_unlink(HOME_FILE, LOG) == 0)
			file_exists = false;
		set_home(SX_HOME_OURS);
	}
}

/*
 * streamext.adopt(): this data directory is the pipelines' own from now on.  Takes
 * effect at once, whatever becomes of the transaction.
 */
Datum
sx_adopt(PG_FUNCTION_ARGS)
{
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("cannot adopt pipelines during recovery"),
				 errhint("Promote this server: that lets pipelines run here.")));
	if (sx_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("streamext is not loaded"),
				 errhint("Add it to shared_preload_libraries and restart the server.")));
	if (sx_home() == SX_HOME_OURS)
	{
		ereport(NOTICE,
				(errmsg("pipelines run in this data directory already")));
		PG_RETURN_VOID();
	}
	(void) write_file(ERROR);
	set_home(SX_HOME_OURS);
	sx_launcher_wake(true);
	PG_RETURN_VOID();
}
