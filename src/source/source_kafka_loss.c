/*-------------------------------------------------------------------------
 *
 * source_kafka_loss.c
 *		Records that are gone, and logs that are not what they were.
 *
 * With every position goes an anchor (column streamext.partition.anchor): offset,
 * timestamp and hash of the last record, and the cluster's id.  Each helper compares
 * before it reads on (kafka/helper_parts.c).  What it finds, or what the broker says
 * about our offset, is one of these:
 *
 *		offset gone		retention or a deletion of records has passed us
 *		truncated		the log ends before our offset
 *		other record	the topic was created anew
 *		other cluster	said by the metadata, for all partitions at once
 *
 * on_data_loss = stop makes an error of it, after everything before it is processed.
 * With continue the partition goes on at the oldest record that there is:
 *
 *		error ── queue used up ──> NEW, lost = reason ── RESOLVE ──> FOUND
 *		── gap row, position and anchor are committed ──> READY, and a new helper
 *
 * How many records are missing is known when retention has passed us; a log that is
 * another one has nothing to be counted from.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "catalog/sx_catalog.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/timestamp.h"

#include "source/source_kafka.h"

/* As streamext.gap.reason has them. */
#define REASON_RETENTION	"offset gone"
#define REASON_TRUNCATED	"truncated"
#define REASON_RECREATED	"topic recreated"
#define REASON_CLUSTER		"other cluster"

/* ---------- anchors ---------- */

void
sx_kafka_anchor_open(KafkaPart *part, const char *anchor)
{
	char	   *hash = sx_position_field(anchor, "hash");

	part->anchor.offset = sx_position_int(anchor, "offset", -1);
	part->anchor.time = sx_position_int(anchor, "timestamp", -1);
	part->anchor.hashed = hash != NULL;
	part->anchor.hash = hash ? strtoull(hash, NULL, 16) : 0;
	part->anchor.cluster = sx_position_field(anchor, "cluster");
}

static void
set_anchor_text(KafkaSource *k, int i)
{
	const KafkaPart *part = &k->parts[i];
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoChar(&text, '{');
	if (part->anchor.offset >= 0)
		appendStringInfo(&text, "\"offset\": " INT64_FORMAT, part->anchor.offset);
	if (part->anchor.offset >= 0 && part->anchor.time >= 0)
		appendStringInfo(&text, ", \"timestamp\": " INT64_FORMAT, part->anchor.time);
	if (part->anchor.offset >= 0 && part->anchor.hashed)
		appendStringInfo(&text, ", \"hash\": \"%016" INT64_MODIFIER "x\"", part->anchor.hash);
	if (part->anchor.cluster != NULL)
	{
		appendStringInfo(&text, "%s\"cluster\": ", text.len > 1 ? ", " : "");
		escape_json(&text, part->anchor.cluster);
	}
	appendStringInfoChar(&text, '}');
	sx_part_set(&k->base, &k->base.parts[i].anchor, text.data);
	pfree(text.data);
}

/*
 * The batch is cut: its last record is the anchor of the position behind it.  Must
 * happen before a record is decoded, which changes it.
 */
void
sx_kafka_anchor_cut(KafkaSource *k, int i)
{
	KafkaPart  *part = &k->parts[i];

	if (part->lost != NULL)
		part->anchor.offset = -1;
	if (part->cut > 0)
	{
		const SxRecord *rec = part->queue[part->first + part->cut - 1];

		part->anchor.offset = rec->offset;
		part->anchor.time = rec->has_timestamp ? rec->timestamp : -1;
		part->anchor.hashed = rec->oversize == 0;
		part->anchor.hash = rec->oversize != 0 ? 0 :
			sx_anchor_hash(sx_record_key(rec), rec->key_len,
						   sx_record_value(rec), rec->value_len);
	}
	else if (part->lost == NULL && part->state != KAFKA_PART_FOUND &&
			 part->anchor.cluster != NULL)
		return;					/* as it was */
	part->anchor.cluster = k->cluster;
	set_anchor_text(k, i);
}

/* The batch was given up: the anchor is that of the committed position again. */
void
sx_kafka_anchor_back(KafkaSource *k, int i)
{
	KafkaPart  *part = &k->parts[i];

	part->anchor = part->committed_anchor;
	if (part->anchor.offset >= 0 || part->anchor.cluster != NULL)
		set_anchor_text(k, i);
	else
		sx_part_set(&k->base, &k->base.parts[i].anchor, NULL);
}

/* ---------- losses ---------- */

static bool
is_loss(const KafkaPart *part)
{
	return part->error != NULL &&
		(part->error_code == SX_KAFKA_ERR_OFFSET_GONE ||
		 part->error_code == SX_KAFKA_ERR_OTHER_RECORD ||
		 part->error_code == SX_KAFKA_ERR_TRUNCATED);
}

static void
raise_loss(const KafkaSource *k, const KafkaPart *part, const char *name)
{
	const char *label = k->base.stream->label;
	const char *hint = "ALTER STREAM … OPTIONS (SET on_data_loss 'continue') and streamext.resume() go on with what there is; "
		"streamext.reset() begins again.";

	if (part->error_code == SX_KAFKA_ERR_OFFSET_GONE)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("offset " INT64_FORMAT " of partition %s is not in Kafka, where stream %s has to go on",
						part->next, name, label),
				 errdetail("Records were deleted before they were read, or the topic was created anew: %s",
						   part->error),
				 errhint("%s", hint)));
	if (part->error_code == SX_KAFKA_ERR_TRUNCATED)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("partition %s ends before offset " INT64_FORMAT ", where stream %s has to go on",
						name, part->next, label),
				 errdetail("The topic was created anew, or Kafka has lost records: %s.", part->error),
				 errhint("%s", hint)));
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("partition %s of stream %s is not the one that was read before", name, label),
			 errdetail("The topic was created anew, or Kafka has lost records: %s.", part->error),
			 errhint("%s", hint)));
}

static void
raise_part_error(const KafkaSource *k, const KafkaPart *part, const char *name)
{
	if (is_loss(part))
		raise_loss(k, part, name);
	ereport(ERROR,
			(errcode(part->error_code == SX_KAFKA_ERR_NOT_ALLOWED ?
					 ERRCODE_INSUFFICIENT_PRIVILEGE : ERRCODE_DATA_CORRUPTED),
			 errmsg("could not read partition %s of stream %s: %s", name,
					k->base.stream->label, part->error)));
}

/* on_data_loss = continue: the partition begins again, with a gap to be noted. */
static void
begin_behind_gap(KafkaSource *k, KafkaPart *part, const char *reason)
{
	part->lost = reason;
	part->gap_from = part->committed;
	part->state = KAFKA_PART_NEW;
	part->start = SX_OFFSET_EARLIEST;
	part->ended_at = 0;
	part->low = part->high = part->target = -1;
	if (part->error != NULL)
		pfree(part->error);
	part->error = NULL;
}

static const char *
reason_of(const KafkaPart *part)
{
	return part->error_code == SX_KAFKA_ERR_OFFSET_GONE ? REASON_RETENTION :
		part->error_code == SX_KAFKA_ERR_TRUNCATED ? REASON_TRUNCATED : REASON_RECREATED;
}

/* Acts on errors of partitions once everything before the bad place has been handed over. */
void
sx_kafka_check_parts(KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[i];

		if (part->error == NULL || (part->first != part->last && !k->peeking))
			continue;
		if (is_loss(part) && k->continues && !k->peeking && !k->loaded)
			begin_behind_gap(k, part, reason_of(part));
		else if (!is_loss(part) || !k->continues || k->peeking)
			raise_part_error(k, part, k->base.parts[i].name);
	}
}

/*
 * The cluster has told its id.  Nothing has been read from this helper yet, and
 * helpers are not changed while records are queued, so all positions are committed.
 */
void
sx_kafka_check_cluster(KafkaSource *k)
{
	if (k->cluster == NULL || k->peeking)
		return;
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[i];

		if (part->state != KAFKA_PART_READY || part->anchor.cluster == NULL ||
			strcmp(part->anchor.cluster, k->cluster) == 0)
			continue;
		if (!k->continues)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("the brokers of stream %s belong to another Kafka cluster than before",
							k->base.stream->label),
					 errdetail("The id of the cluster was %s, now it is %s.",
							   part->anchor.cluster, k->cluster),
					 errhint("Correct option \"brokers\"; or ALTER STREAM … OPTIONS (SET on_data_loss 'continue') and streamext.resume() to read from the beginning there.")));
		begin_behind_gap(k, part, REASON_CLUSTER);
	}
}

/* ---------- gaps ---------- */

/* From offsets of one log it follows how many are missing. */
static bool
is_counted(const KafkaPart *part)
{
	return strcmp(part->lost, REASON_RETENTION) == 0 && part->next >= part->gap_from;
}

static void
save_gap(const KafkaSource *k, int i)
{
	const KafkaPart *part = &k->parts[i];
	/* the offset was out of range, though not before the log's start: behind its end */
	const char *reason = strcmp(part->lost, REASON_RETENTION) == 0 && !is_counted(part) ?
		REASON_TRUNCATED : part->lost;
	Oid			types[] = {
		INT4OID, REGCLASSOID, TEXTOID, INT8OID, INT8OID, INT8OID, TEXTOID
	};
	Datum		values[] = {
		Int32GetDatum(k->base.pipeline), ObjectIdGetDatum(k->base.stream->relid),
		CStringGetTextDatum(k->base.parts[i].name), Int64GetDatum(part->gap_from),
		Int64GetDatum(part->next), Int64GetDatum(part->next - part->gap_from),
		CStringGetTextDatum(reason)
	};
	char		nulls[] = {' ', ' ', ' ', ' ', ' ', ' ', ' '};

	if (!is_counted(part))
		nulls[5] = 'n';
	sx_catalog_exec("INSERT INTO streamext.gap (pipeline, stream, partition, from_offset, to_offset, records, reason, batch_id) "
					"SELECT $1, $2, $3, $4, $5, $6, $7, batch_id FROM streamext.progress "
					"WHERE pipeline = $1 AND slot = 0",
					lengthof(types), types, values, nulls);
}

/* In the batch's transaction: a row for each gap that its positions jump over. */
void
sx_kafka_save_gaps(KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
		if (k->parts[i].lost != NULL && k->parts[i].state == KAFKA_PART_FOUND)
			save_gap(k, i);
}

/* That is committed: tells whoever reads the log, and has a helper begin there. */
void
sx_kafka_gaps_saved(KafkaSource *k)
{
	for (int i = 0; i < k->base.nparts; i++)
	{
		KafkaPart  *part = &k->parts[i];

		if (part->lost == NULL || part->state != KAFKA_PART_FOUND)
			continue;
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("stream %s lost records of partition %s: it went on from offset " INT64_FORMAT " to " INT64_FORMAT,
						k->base.stream->label, k->base.parts[i].name, part->gap_from, part->next),
				 errdetail("Reason: %s. See streamext.gaps.", part->lost)));
		part->lost = NULL;
		k->renew = true;
	}
}
