/*-------------------------------------------------------------------------
 *
 * home.h
 *		Whether pipelines may run in this data directory: see home.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_HOME_H
#define SX_HOME_H

typedef enum SxHome
{
	SX_HOME_UNKNOWN = 0,		/* the launcher has not looked yet */
	SX_HOME_OURS,				/* the marker file fits, or none is needed yet */
	SX_HOME_COPY				/* it does not: nothing runs */
} SxHome;

/* For the launcher: at its start, and once a round with what it knows of the marks. */
extern void sx_home_open(void);
extern void sx_home_tend(bool any_marks, bool marks_known);

/* For everybody */
extern SxHome sx_home(void);

#define SX_COPY_HINT \
	"Run streamext.adopt() as a superuser if the server it was copied from does not run these pipelines any more."

#endif							/* SX_HOME_H */
