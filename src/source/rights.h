/*-------------------------------------------------------------------------
 *
 * rights.h
 *		What the owner of a source stream may do, and where it may connect to.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_RIGHTS_H
#define SX_RIGHTS_H

#include "fdw/stream.h"
#include "utils/guc.h"

/*
 * ERROR 42501 unless the stream's owner may have a stream like this, as things are now:
 * rights can be taken away after CREATE, and owners change.  Called whenever a source is
 * about to be opened.
 */
extern void sx_stream_check_rights(const SxStream *stream);

/* May the secrets that a mapping for PUBLIC holds be used for the stream? */
extern bool sx_stream_may_use_public_secrets(const SxStream *stream);

/*
 * The rules of allowed_hosts.h that the stream's connections are subject to; NULL: none,
 * as its owner is a superuser.  Where there are rules, errors must not tell its owner
 * what answers at an address: that would make a port scanner of them.
 */
extern const char *sx_stream_host_rules(const SxStream *stream);

/* The check hook of streamext.allowed_hosts. */
extern bool sx_check_allowed_hosts(char **newval, void **extra, GucSource source);

#endif							/* SX_RIGHTS_H */
