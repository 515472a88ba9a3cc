/*-------------------------------------------------------------------------
 *
 * wide_produce.c
 *		Makes records of 200 columns.
 *
 * usage: wide_produce BROKERS TOPIC COUNT        into a topic, round robin
 *        wide_produce - - COUNT                  JSON lines instead
 *
 * Column c0 … c199 of record i: by number modulo 4 an integer, a text of 8
 * characters, a decimal number, a boolean.  They depend on i and the column alone.
 * c1 has 100 values.
 *
 *-------------------------------------------------------------------------
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "output.h"

#define COLUMNS 200

static size_t
make_record(char *to, size_t room, int64_t i)
{
	size_t		n = 0;

	for (int c = 0; c < COLUMNS; c++)
	{
		uint64_t	x = mix((uint64_t) i * COLUMNS + c);

		n += snprintf(to + n, room - n, "%s\"c%d\":", c == 0 ? "{" : ",", c);
		if (c == 1)
			n += snprintf(to + n, room - n, "\"key%05d\"", (int) (x % 100));
		else if (c % 4 == 0)
			n += snprintf(to + n, room - n, "%d", (int) (x % 1000000));
		else if (c % 4 == 1)
			n += snprintf(to + n, room - n, "\"%08x\"", (unsigned) x);
		else if (c % 4 == 2)
			n += snprintf(to + n, room - n, "%d.%02d", (int) (x % 1000), (int) (x >> 32) % 100 & 63);
		else
			n += snprintf(to + n, room - n, "%s", x % 2 ? "true" : "false");
	}
	n += snprintf(to + n, room - n, "}");
	return n;
}

int
main(int argc, char **argv)
{
	OutputTarget to = {0};
	Output	   *out;
	int64_t		count;
	char		record[16384];

	if (argc != 4)
		fail("usage: wide_produce BROKERS TOPIC COUNT");
	if (strcmp(argv[1], "-") == 0)
		to.file = "-";
	to.brokers = argv[1];
	to.topic = argv[2];
	count = atoll(argv[3]);
	out = output_open(&to);
	for (int64_t i = 0; i < count; i++)
		output_put(out, record, make_record(record, sizeof(record), i));
	return output_close(out) > 0;
}
