/*-------------------------------------------------------------------------
 *
 * path.h
 *		Option "path" of a column: where its value stands in a JSON document.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_PATH_H
#define SX_PATH_H

#include "nodes/pg_list.h"

typedef struct SxPathStep
{
	char	   *key;			/* member of an object; NULL: array element … */
	int			index;			/* … of this number, from 0 */
} SxPathStep;

/* List of SxPathStep; ERROR 22023 when the path cannot be read. */
extern List *sx_path_parse(const char *path);

#endif							/* SX_PATH_H */
