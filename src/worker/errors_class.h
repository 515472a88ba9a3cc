/*-------------------------------------------------------------------------
 *
 * errors_class.h
 *		Whose fault an error is, by its SQLSTATE.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_ERRORS_CLASS_H
#define SX_ERRORS_CLASS_H

typedef enum SxErrorClass
{
	SX_ERR_RECORD,				/* a record's: set it aside, go on without it */
	SX_ERR_RETRY,				/* the server's or the network's: it may pass */
	SX_ERR_STOP					/* configuration or a bug: somebody has to mend it */
} SxErrorClass;

extern SxErrorClass sx_error_class(int sqlerrcode);

#endif							/* SX_ERRORS_CLASS_H */
