/*-------------------------------------------------------------------------
 *
 * record.h
 *		A record as every source hands it to the scan, and as the helper
 *		program lays it into the shared ring.
 *
 * This header is shared with the helper program, so it includes nothing of
 * PostgreSQL.  A record is a header followed by its bytes, in the order value,
 * key, headers, padded to a multiple of 8.  Whoever owns the memory guarantees
 * SX_RECORD_SLACK readable bytes behind the last record: the JSON decoder reads
 * a little past the end of a value, and decodes it in place.
 *
 * A record whose kind is not SX_RECORD_DATA carries no row; it tells the reader
 * about its partition (see the comments of SxRecordKind).
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_RECORD_H
#define SX_RECORD_H

#include <stdint.h>
#include <string.h>

#define SX_RECORD_SLACK		64	/* readable bytes behind the last record */
#define SX_RECORD_ALIGN(n)	(((n) + 7u) & ~7u)

typedef enum SxRecordKind
{
	SX_RECORD_PAD = 0,			/* fills the ring to its end: skip size bytes */
	SX_RECORD_DATA,				/* a row */
	SX_RECORD_END,				/* the partition was read to its end; offset is
								 * the position that the next record will have
								 * at least */
	SX_RECORD_ERROR				/* partition-level error: value is the text,
								 * offset the librdkafka error code */
} SxRecordKind;

typedef struct SxRecord
{
	uint32_t	size;			/* bytes of header and data, a multiple of 8 */
	uint8_t		kind;			/* SxRecordKind */
	uint8_t		has_timestamp;	/* timestamp below is known */
	uint16_t	oversize;		/* not 0: too large to be kept, of so many kB; value
								 * is NULL, key and headers may be */
	int32_t		part;			/* index into SxSource.parts */
	int32_t		value_len;		/* -1: NULL (a tombstone), else bytes */
	int32_t		key_len;		/* -1: NULL, else bytes */
	int32_t		headers_len;	/* 0: none; else headers encoded as
								 * { uint32 name length, int32 value length (-1
								 * NULL), name, value } repeated, unaligned */
	int64_t		offset;			/* position in its partition */
	int64_t		timestamp;		/* Kafka's: milliseconds since 1970 */
} SxRecord;

/* The bytes of a record, or NULL where the part is NULL. */
static inline const char *
sx_record_value(const SxRecord *rec)
{
	return rec->value_len < 0 ? (const char *) 0 : (const char *) (rec + 1);
}

static inline const char *
sx_record_key(const SxRecord *rec)
{
	return rec->key_len < 0 ? (const char *) 0 :
		(const char *) (rec + 1) + (rec->value_len < 0 ? 0 : rec->value_len);
}

static inline const char *
sx_record_headers(const SxRecord *rec)
{
	return rec->headers_len <= 0 ? (const char *) 0 :
		(const char *) (rec + 1) + (rec->value_len < 0 ? 0 : rec->value_len) +
		(rec->key_len < 0 ? 0 : rec->key_len);
}

/* One header of a record; value NULL with value_len -1 is a null. */
typedef struct SxHeader
{
	const char *name;
	const char *value;
	uint32_t	name_len;
	int32_t		value_len;
} SxHeader;

/*
 * The header at *p, which is then behind it.  False: there is none before end, or its
 * lengths cannot be right.
 */
static inline int
sx_header_next(const char **p, const char *end, SxHeader *header)
{
	int64_t		left = end - *p;

	if (left < 8)
		return 0;
	memcpy(&header->name_len, *p, 4);
	memcpy(&header->value_len, *p + 4, 4);
	left -= 8;
	if (header->value_len < -1 || header->name_len > left ||
		(header->value_len > 0 && header->value_len > left - header->name_len))
		return 0;
	header->name = *p + 8;
	*p = header->name + header->name_len;
	header->value = header->value_len < 0 ? (const char *) 0 : *p;
	*p += header->value_len < 0 ? 0 : header->value_len;
	return 1;
}

/* Size of a record with parts of these lengths (-1 and 0 take no bytes). */
static inline uint32_t
sx_record_size(int32_t value_len, int32_t key_len, int32_t headers_len)
{
	return SX_RECORD_ALIGN((uint32_t) sizeof(SxRecord) +
						   (uint32_t) (value_len < 0 ? 0 : value_len) +
						   (uint32_t) (key_len < 0 ? 0 : key_len) +
						   (uint32_t) (headers_len < 0 ? 0 : headers_len));
}

#endif							/* SX_RECORD_H */
