/*-------------------------------------------------------------------------
 *
 * file_tail_position.c
 *		The position of a file that is followed, as text.
 *
 *		{"inode": i, "device": d, "offset": bytes, "check": CRC of the bytes before it,
 *		 "since": microseconds, "done": "inode:offset:crc …", "losses": how often}
 *
 * Inode 0: there was no file yet.  file_tail.c says what it all means.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "source/file_tail.h"
#include "source/source.h"

static uint64
uint64_field(const char *position, const char *field)
{
	char	   *digits = sx_position_field(position, field);

	return digits ? strtoull(digits, NULL, 10) : 0;
}

/* "inode:offset:crc inode:offset:crc …" */
static void
parse_done(SxTailPosition *at, const char *text)
{
	while (text != NULL && *text != '\0' && at->ndone < SX_TAIL_DONE)
	{
		unsigned long long inode;
		long long	offset;
		unsigned int check;

		if (sscanf(text, "%llu:%lld:%u", &inode, &offset, &check) != 3)
			elog(ERROR, "malformed position of a file that is followed");
		at->done[at->ndone++] = (SxTailMark) {.inode = inode, .offset = offset, .check = check};
		text = strchr(text, ' ');
		if (text != NULL)
			text++;
	}
}

void
sx_tail_position_parse(SxTailPosition *at, const char *position)
{
	at->mark.inode = uint64_field(position, "inode");
	at->mark.offset = sx_position_int(position, "offset", 0);
	at->mark.check = (uint32) sx_position_int(position, "check", 0);
	at->device = uint64_field(position, "device");
	at->since = sx_position_int(position, "since", DT_NOBEGIN);
	at->losses = sx_position_int(position, "losses", 0);
	parse_done(at, sx_position_field(position, "done"));
}

char *
sx_tail_position_text(const SxTailPosition *position)
{
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "{\"inode\": " UINT64_FORMAT ", \"device\": " UINT64_FORMAT
					 ", \"offset\": " INT64_FORMAT ", \"check\": %u, \"since\": " INT64_FORMAT,
					 position->mark.inode, position->device, position->mark.offset,
					 position->mark.check, position->since);
	if (position->ndone > 0)
		appendStringInfoString(&buf, ", \"done\": \"");
	for (int i = 0; i < position->ndone; i++)
		appendStringInfo(&buf, "%s" UINT64_FORMAT ":" INT64_FORMAT ":%u", i > 0 ? " " : "",
						 position->done[i].inode, position->done[i].offset,
						 position->done[i].check);
	if (position->ndone > 0)
		appendStringInfoChar(&buf, '"');
	appendStringInfo(&buf, ", \"losses\": " INT64_FORMAT "}", position->losses);
	return buf.data;
}
