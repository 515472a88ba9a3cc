/*-------------------------------------------------------------------------
 *
 * output.h
 *		What the benchmarks' generators share: where their events go, and the
 *		numbers that they are made of.
 *
 *-------------------------------------------------------------------------
 */
#ifndef BENCH_OUTPUT_H
#define BENCH_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

/* A file, or else a topic. */
typedef struct OutputTarget
{
	const char *file;			/* "-": standard output */
	const char *topic;
	const char *brokers;
	int			partitions;		/* 0: as many as the topic has */
	const char *linger;			/* milliseconds; NULL: 20 */
} OutputTarget;

typedef struct Output Output;

extern Output *output_open(const OutputTarget *target);
extern void output_put(Output *out, const char *event, size_t length);
extern int64_t output_close(Output *out);

/* Says so under the program's name, and ends it. */
extern void fail(const char *text) __attribute__((noreturn));

/* The end of splitmix64: every input gives an independent-looking output, but for 0. */
static inline uint64_t
stir(uint64_t x)
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

#define MIX_STEP		UINT64_C(0x9e3779b97f4a7c15)

/* The whole of splitmix64. */
static inline uint64_t
mix(uint64_t x)
{
	return stir(x + MIX_STEP);
}

#endif							/* BENCH_OUTPUT_H */
