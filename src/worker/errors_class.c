/*-------------------------------------------------------------------------
 *
 * errors_class.c
 *		Whose fault an error is, by its SQLSTATE.
 *
 * The rule errs on the side of stopping: a code that is listed nowhere is nobody's
 * known fault, so no record is set aside for it and nothing is tried for ever.
 * Single codes are looked at first, then the class, which is the code's first two
 * characters.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "utils/errcodes.h"

#include "worker/errors_class.h"

/* Codes that differ from the rest of their class. */
static bool
code_is_special(int code, SxErrorClass *result)
{
	switch (code)
	{
		case ERRCODE_READ_ONLY_SQL_TRANSACTION: /* became a standby */
		case ERRCODE_OBJECT_IN_USE:
		case ERRCODE_LOCK_NOT_AVAILABLE:
		case ERRCODE_FDW_UNABLE_TO_ESTABLISH_CONNECTION:
			*result = SX_ERR_RETRY;
			return true;
		case ERRCODE_TOO_MANY_COLUMNS:	/* 54011: a matter of the query */
		case ERRCODE_CONFIGURATION_LIMIT_EXCEEDED:	/* 53400: no worker is free */
			*result = SX_ERR_STOP;
			return true;
		default:
			return false;
	}
}

SxErrorClass
sx_error_class(int sqlerrcode)
{
	SxErrorClass result;

	if (code_is_special(sqlerrcode, &result))
		return result;

	switch (ERRCODE_TO_CATEGORY(sqlerrcode))
	{
			/* the data, or what a user's function says about it */
		case MAKE_SQLSTATE('2', '0', '0', '0', '0'):	/* case not found */
		case MAKE_SQLSTATE('2', '1', '0', '0', '0'):	/* cardinality violation */
		case MAKE_SQLSTATE('2', '2', '0', '0', '0'):	/* data exception */
		case MAKE_SQLSTATE('2', '3', '0', '0', '0'):	/* integrity constraint */
		case MAKE_SQLSTATE('3', '8', '0', '0', '0'):	/* raised by a function in
														 * another language */
		case MAKE_SQLSTATE('3', '9', '0', '0', '0'):	/* … or about its arguments */
		case MAKE_SQLSTATE('4', '4', '0', '0', '0'):	/* WITH CHECK OPTION */
		case MAKE_SQLSTATE('5', '4', '0', '0', '0'):	/* a limit, as stack depth */
		case MAKE_SQLSTATE('P', '0', '0', '0', '0'):	/* RAISE, ASSERT, STRICT */
			return SX_ERR_RECORD;

			/* what may pass by itself */
		case MAKE_SQLSTATE('0', '8', '0', '0', '0'):	/* connection */
		case MAKE_SQLSTATE('4', '0', '0', '0', '0'):	/* serialization, deadlock */
		case MAKE_SQLSTATE('5', '3', '0', '0', '0'):	/* disk, memory, connections */
		case MAKE_SQLSTATE('5', '7', '0', '0', '0'):	/* cancel, shutdown */
		case MAKE_SQLSTATE('5', '8', '0', '0', '0'):	/* system error */
		case MAKE_SQLSTATE('7', '2', '0', '0', '0'):	/* snapshot too old */
			return SX_ERR_RETRY;

		default:
			return SX_ERR_STOP;
	}
}
