#!/usr/bin/env python3
"""profile.py PERF-DATA [CPU-SECONDS EVENTS]: where the time goes, by part, from perf record -g.

Each sample belongs to the first part that a function of its stack names, seen from the innermost.
With the CPU seconds that were spent and the events, shares become seconds a million events.
"""
import re
import subprocess
import sys

PARTS = [
    ('librdkafka: fetch, parse, queue', r'^(rdk:|rd_kafka_|rd_slice|rd_buf|crc32c)'),
    ('helper: into the ring', r'^(parts_|ring_|move_messages|take_messages|helper_)'),
    ('worker: out of the ring', r'^(sx_kafka_|sx_ring_|kafka_)'),
    ('decoding the columns', r'simdjson|^(sx_json|json_|read_object|read_value|read_document|take_prefix|sx_input|sx_parse|convert_|sx_convert|sx_format|decode_|parse_|sx_sharing_)'),
    ('plan and start of statements', r'^(standard_planner|pg_plan|pg_analyze|RevalidateCachedQuery|GetCachedPlan|ExecutorStart|standard_ExecutorStart|ExecutorEnd|standard_ExecutorEnd|ExecInitNode|ExecEndNode|InitPlan)'),
    ('join', r'^(ExecScanHashBucket|MultiExecHash|ExecHash|ExecParallelHash)'),
    ('writing state: upsert, indexes, WAL', r'^(heap_(insert|update|delete|lock|multi)|ExecInsertIndexTuples|ExecCheckIndexConstraints|btinsert|_bt_|XLog|ExecOnConflict|table_tuple|simple_table|index_insert|sx_state_|sx_merge_|sx_hints_|work_off|merge_where|sort_by_|add_rows?$)'),
    ('group and sort', r'^(LookupTupleHash|tuplesort_|BuildTupleHash|ScanTupleHash|TupleHash|hash_bytes|advance|ExecSort|ExecAgg|int8inc|ReScanTupleHash|sx_groups?_|sx_split_|take_(words|row|rows|text|pieces)_?|fetch_ahead|group_of)'),
    ('commit', r'^(CommitTransaction|RecordTransactionCommit|AtEO|ResourceOwnerRelease|ProcArrayEnd)'),
    ('scan and executor', r'^(sx_scan|fill_row|take_metadata|iterate_scan|sx_track|ExecProcNode|standard_ExecutorRun|ExecutorRun|ExecScan|ExecInterp|SPI_execute|_SPI_)'),
    ('waiting and waking', r'^(WaitEventSet|WaitLatch|epoll|do_epoll|schedule|__schedule|poll)'),
]


def part_of(comm, stack):
    if comm.startswith('rdk:') or 'librdkafka' in stack[0][1]:
        return PARTS[0][0]
    for symbol, dso in stack:
        for name, pattern in PARTS:
            if re.search(pattern, symbol) or ('simdjson' in pattern and 'simdjson' in dso):
                return name
    return 'helper: copies, memory, rest' if comm.startswith('streamext-k') else 'worker: rest'


def samples(path):
    """(command, [(function, library) …]) of each sample, from the innermost."""
    script = subprocess.run(['perf', 'script', '-i', path, '-F', 'comm,ip,sym,dso'], capture_output=True, text=True, errors='replace', check=False).stdout
    for block in script.split('\n\n'):
        lines = block.strip('\n').split('\n')
        if len(lines) < 2:
            continue
        frames = [re.match(r'\s*[0-9a-f]+ (.*) \(([^)]*)\)$', line) for line in lines[1:]]
        stack = [(f.group(1).strip(), f.group(2)) for f in frames if f]
        if stack:
            yield lines[0].strip(), stack


def main(path, seconds=None, events=None):
    counts = {}
    for comm, stack in samples(path):
        part = part_of(comm, stack)
        counts[part] = counts.get(part, 0) + 1
    total = sum(counts.values()) or 1
    scale = float(seconds) * 1e6 / float(events) if seconds and events else None
    print('| part | share |%s' % (' CPU seconds a million events |' if scale else ''))
    print('|---|---:|%s' % ('---:|' if scale else ''))
    for part, n in sorted(counts.items(), key=lambda x: -x[1]):
        print('| %s | %.1f %% |%s' % (part, 100 * n / total, ' %.3f |' % (scale * n / total) if scale else ''))


main(*sys.argv[1:])
