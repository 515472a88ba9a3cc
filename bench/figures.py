#!/usr/bin/env python3
"""figures.py: what the benchmarks measure with and write down.

figures.py cpu PID                  CPU of the server whose postmaster is PID, as JSON
figures.py spent BEFORE AFTER       seconds between two of those, "kind=seconds …"
figures.py latency SENT SEEN PARTITIONS SKIP  p50, p95, p99 and maximum in milliseconds
figures.py note FILE SERIES NAME=VALUE …      one round of a series
figures.py report FILE NAME=VALUE …           medians over the rounds: a table, and JSON

The server is all processes below the postmaster.  What each has spent is in its stat, that of its
children which have ended included; so a process that ended in between is found in its parent's
account, and none is counted twice:

    worker      processes that run a pipeline        helper      their Kafka helpers, ended ones too
    walwriter, checkpointer, bgwriter, autovacuum    (launcher and living workers)
    other       launcher, scheduler, receivers, postmaster
    ended       children of the postmaster that are gone: autovacuum's workers, sessions
    sessions    clients that are still connected; not part of "total"
"""
import json
import os
import platform
import statistics
import sys

TICKS = os.sysconf('SC_CLK_TCK')
KINDS = ['worker', 'helper', 'walwriter', 'checkpointer', 'bgwriter', 'autovacuum', 'other', 'ended']


def kind_of(title):
    """By the process title; of helper programs that is the name of the program."""
    if title.startswith('streamext-kafka'):
        return 'helper'
    what = title.split('postgres: ', 1)[-1]
    if what.startswith('streamext: '):
        return 'worker'
    for word, kind in (('walwriter', 'walwriter'), ('checkpointer', 'checkpointer'),
                       ('background writer', 'bgwriter'), ('autovacuum', 'autovacuum'),
                       ('streamext ', 'other'), ('logical replication', 'other'), ('io worker', 'other')):
        if what.startswith(word):
            return kind
    return 'sessions'


def stat(pid):
    """(parent, own seconds, seconds of children that have ended); the name may hold blanks."""
    with open('/proc/%s/stat' % pid) as f:
        fields = f.read().rsplit(')', 1)[1].split()
    return int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS, (int(fields[13]) + int(fields[14])) / TICKS


def snapshot(postmaster):
    processes = {}
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open('/proc/%s/cmdline' % pid, 'rb') as f:
                title = f.read().replace(b'\0', b' ').decode('utf-8', 'replace').strip()
            processes[int(pid)] = (*stat(pid), os.path.basename(title.split(' ')[0]) if title.startswith('/') else title)
        except (OSError, IndexError):
            continue            # it has ended
    result = {}

    def walk(pid):
        for child, (parent, own, ended, title) in processes.items():
            if parent == pid:
                result[child] = {'kind': kind_of(title), 'parent': pid, 'own': own, 'ended': ended}
                walk(child)

    _, own, ended, _ = processes[postmaster]
    result[postmaster] = {'kind': 'other', 'parent': 0, 'own': own, 'ended': ended}
    walk(postmaster)
    return result


def spent(before, after):
    """Seconds by kind.  What a process that has ended since had before is taken from its parent's account."""
    seconds = dict.fromkeys(KINDS + ['sessions'], 0.0)
    for pid, now in after.items():
        was = before.get(pid, {'own': 0.0, 'ended': 0.0})
        gone = sum(p['own'] + p['ended'] for q, p in before.items() if p['parent'] == int(pid) and q not in after)
        children = max(now['ended'] - was['ended'] - gone, 0.0)
        seconds[now['kind']] += now['own'] - was['own']
        seconds['ended' if now['parent'] == 0 else 'helper' if now['kind'] == 'worker' else now['kind']] += children
    seconds['total'] = sum(seconds[k] for k in KINDS)
    return seconds


def latency(sent_file, seen_file, partitions, skip):
    """SENT: when event i was sent, which is number i // partitions of partition i % partitions.
    SEEN: "microseconds,partition,next number" of each look, in order.  The first SKIP seconds are left out."""
    with open(sent_file) as f:
        sent = [int(line) for line in f]
    begin = sent[0] + int(skip * 1e6)
    known = [0] * partitions
    taken = []
    with open(seen_file) as f:
        for line in f:
            at, partition, position = (int(x) for x in line.split(','))
            for n in range(known[partition], position):
                i = n * partitions + partition
                if i < len(sent) and sent[i] >= begin:
                    taken.append(at - sent[i])
            known[partition] = max(known[partition], position)
    if sum(known) != len(sent):
        sys.exit('%d events were sent, %d were seen' % (len(sent), sum(known)))
    taken.sort()

    def quantile(q):
        return taken[min(int(q * len(taken)), len(taken) - 1)] / 1000
    return 'events=%d p50=%.2f p95=%.2f p99=%.2f max=%.2f' % (len(taken), quantile(0.5), quantile(0.95), quantile(0.99), taken[-1] / 1000)


def number(text):
    try:
        return float(text)
    except ValueError:
        return text


def pairs(words):
    return dict((w.split('=', 1)[0], number(w.split('=', 1)[1])) for w in words)


def machine():
    def first(path, start):
        with open(path) as f:
            return next((line.split(':', 1)[1].strip() for line in f if line.startswith(start)), '')
    return {'cpu': first('/proc/cpuinfo', 'model name'), 'cores': os.cpu_count(), 'memory': first('/proc/meminfo', 'MemTotal'),
            'kernel': platform.release(), 'load': os.getloadavg()[0]}


def median(values):
    values = [v for v in values if isinstance(v, float)]
    return statistics.median(values) if values else None


def medians(rounds):
    """{series: {name: median}}, in order of their first round."""
    found = {}
    for r in rounds:
        for name, value in r.items():
            if name != 'series':
                found.setdefault(r['series'], {}).setdefault(name, []).append(value)
    return {s: {n: median(v) if median(v) is not None else v[-1] for n, v in names.items()} for s, names in found.items()}


def paired(rounds, series, base, name):
    """The median of the ratios of a round to the base's round that is nearest to it."""
    mine, theirs = [], []
    for i, r in enumerate(rounds):
        if r['series'] == series:
            near = sorted((abs(i - j), j) for j, o in enumerate(rounds) if o['series'] == base)
            mine.append(r.get(name))
            theirs.append(rounds[near[0][1]].get(name) if near else None)
    ratios = [a / b for a, b in zip(mine, theirs) if isinstance(a, float) and isinstance(b, float) and b]
    return statistics.median(ratios) if ratios else None


def show(value):
    if value is None or isinstance(value, str):
        return value or ''
    return '%.0f' % value if abs(value) >= 1000 else '%.1f' % value if abs(value) >= 100 else ('%.3f' % value).rstrip('0').rstrip('.')


def table(header, rows):
    """A table in Markdown, which is as good to read on a terminal."""
    cells = [[show(c) for c in row] for row in rows]
    widths = [max(len(row[i]) for row in [header] + cells) for i in range(len(header))]

    def line(row):
        return '| ' + ' | '.join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))) + ' |'
    rule = '|' + '|'.join('-' * (w + 2) if i == 0 else '-' * (w + 1) + ':' for i, w in enumerate(widths)) + '|'
    return '\n'.join([line(header), rule] + [line(row) for row in cells])


def report(rounds, about):
    """base=SERIES adds ratios to it, show='a b' picks columns, json=FILE and table=FILE keep what is printed."""
    base, keep, to_table = about.pop('base', ''), about.pop('json', ''), about.pop('table', '')
    figures = medians(rounds)
    names = str(about.pop('show', '')).split() or list(dict.fromkeys(n for f in figures.values() for n in f))
    ratios = [n for n in names if n in ('events_s', 'cpu_m')] if base in figures else []
    for series, f in figures.items():
        f['rounds'] = float(sum(r['series'] == series for r in rounds))
        for n in ratios:
            f[n + '_ratio'] = 1.0 if series == base else paired(rounds, series, base, n)
    header = [about.get('bench', ''), 'rounds'] + names + ['%s / %s' % (n, base) for n in ratios]
    text = table(header, [[s] + [f.get(n) for n in ['rounds'] + names + [n + '_ratio' for n in ratios]] for s, f in figures.items()])
    print(text)
    if to_table:
        with open(to_table, 'a') as f:
            f.write(text + '\n\n')
    if keep:
        with open(keep, 'w') as f:
            json.dump({**about, 'machine': machine(), 'figures': figures, 'rounds': rounds}, f, indent=1)
            f.write('\n')


def main(verb, *words):
    if verb == 'cpu':
        print(json.dumps(snapshot(int(words[0]))))
    elif verb == 'spent':
        before, after = ({int(k): v for k, v in json.loads(w).items()} for w in words)
        print(' '.join('%s=%.3f' % x for x in spent(before, after).items()))
    elif verb == 'latency':
        print(latency(words[0], words[1], int(words[2]), float(words[3])))
    elif verb == 'note':
        with open(words[0], 'a') as f:
            f.write(json.dumps({'series': words[1], **pairs(words[2:])}) + '\n')
    elif verb == 'report':
        with open(words[0]) as f:
            report([json.loads(line) for line in f], pairs(words[1:]))


main(*sys.argv[1:])
