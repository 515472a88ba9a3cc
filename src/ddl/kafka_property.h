/*-------------------------------------------------------------------------
 *
 * kafka_property.h
 *		Properties of librdkafka: who may give them, and where.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SX_KAFKA_PROPERTY_H
#define SX_KAFKA_PROPERTY_H

#include "ddl/ddl.h"
#include "ddl/option_value.h"

/* What anybody may authenticate with; others read files or fetch tokens. */
#define SX_SASL_MECHANISMS	"PLAIN|SCRAM-SHA-256|SCRAM-SHA-512"

typedef enum SxPropertyClass
{
	SX_PROPERTY_ANYBODY,
	SX_PROPERTY_SUPERUSER,
	SX_PROPERTY_SECRET,
	SX_PROPERTY_SUPERUSER_SECRET,
	SX_PROPERTY_OURS,
	SX_PROPERTY_NEVER
} SxPropertyClass;

typedef struct SxKafkaProperty
{
	const char *name;
	SxPropertyClass class;
	SxValueType type;
	const char *choices;		/* or, where it cannot be given, the hint */
	int64		min;
	int64		max;
} SxKafkaProperty;

/* kafka_property_list.c */
extern const SxKafkaProperty sx_kafka_properties[];
extern const int sx_kafka_property_count;

/* kafka_property.c: NULL when the library has none of that name that we know. */
extern const SxKafkaProperty *sx_kafka_property_find(const char *name);

/* ERROR unless the current user may give it there, with this value. */
extern void sx_kafka_property_validate(const char *name, const char *value,
									   SxOptionTarget target);

/*
 * For names without a dot, which are taken for options of ours: ERROR when it is a
 * property of librdkafka.
 */
extern void sx_kafka_property_refuse_undotted(const char *name);

/* Does a value of it, on a stream or a server, need a superuser? */
extern bool sx_kafka_property_is_privileged(const char *name, const char *value);

/* Does it decide whom a secret is told, or how? */
extern bool sx_kafka_property_guards_secrets(const char *name);

#endif							/* SX_KAFKA_PROPERTY_H */
