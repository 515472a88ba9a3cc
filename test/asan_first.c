/*-------------------------------------------------------------------------
 *
 * asan_first.c
 *		Makes AddressSanitizer start before any other library does.
 *
 * The sanitizer's library is preloaded into a server that was not built with it.
 * It starts at the first malloc, and asks for gettext's lock while it does; when
 * that malloc comes from another library's constructor that holds this lock
 * (libgpg-error, below libsystemd), the lock is broken and the server hangs.  This
 * library is linked with -z initfirst, so its malloc is the first.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>

__attribute__((constructor)) static void
first(void)
{
	void	   *volatile p = malloc(1);

	free(p);
}
