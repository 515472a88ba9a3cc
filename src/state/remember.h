/*-------------------------------------------------------------------------
 *
 * remember.h
 *		Functions of text whose results a batch remembers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_REMEMBER_H
#define SX_REMEMBER_H

/* One of them: an immutable, strict function of PostgreSQL, all arguments text. */
typedef struct SxRemembered
{
	Oid			function;
	Oid			result;			/* type */
	const char *caller;			/* streamext's function of this type that remembers */
} SxRemembered;

/* NULL: the function is none of these. */
extern const SxRemembered *sx_remembered(Oid function);

/* plan/remember.c: once, when the library is loaded */
extern void sx_remember_init(void);

#endif							/* SX_REMEMBER_H */
