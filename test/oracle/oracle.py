#!/usr/bin/env python3
"""A randomised oracle: after every batch a continuous view equals its SELECT over all rows so far.

usage: oracle.py [--cases N] [--seed S] [--world S] [--queries N] [--seconds N] [--verbose]

Each seed makes a world: streams with random columns, rows cut into batches, and queries, each
of which is a case.  A view that is not its own SELECT is made smaller (minimise.py) and printed
as SQL; a query that streamext refuses counts as refused, and must be refused with a hint.
"""
import argparse
import random
import sys
import time

import minimise
from generate import World
from psql import Session
from run import PREPARE, Counts, Difference, run_world, script

WAYS = ("step",) * 6 + ("rollback", "rollback", "reconnect")


def make(seed, queries):
    r = random.Random(seed)
    world = World(r, queries)
    ways = [r.choice(WAYS) for _ in world.batches]
    if seed % 10 == 3:
        ways[r.randrange(len(ways))] = "worker"
    return world, ways


def one_world(session, seed, options, counts):
    """Differences found in it."""
    found = 0
    world, ways = make(seed, options.queries)
    while world.views:
        try:
            run_world(session, world, world.batches, ways, counts if not found else Counts())
            return found
        except Difference as e:
            found += 1
            session.close()
            print(f"DIFFERENT seed {seed} batch {e.batch} {e}", flush=True)
            if options.minimise:
                small = minimise.minimise(session, world, world.batches, ways, e)
                print(script(*small, f"seed {seed}: {e.what}"), flush=True)
            if not e.view or e.view not in [v[0] for v in world.views] or found > 4:
                return found
            world.views = without(world.views, e.view)
    return found


def without(views, name):
    """The views but one, and but those that stand on it."""
    return [v for v in views if v[0] != name and f" {name} " not in v[1].sql()]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--cases", type=int, default=300)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--world", type=int)
    p.add_argument("--queries", type=int, default=15)
    p.add_argument("--seconds", type=int, default=0, help="begin no world after so long")
    p.add_argument("--database", default="oracle")
    p.add_argument("--no-minimise", dest="minimise", action="store_false")
    p.add_argument("--verbose", action="store_true")
    options = p.parse_args()
    session, counts, different = Session(options.database), Counts(), 0
    session.must(PREPARE)
    began, seed = time.time(), options.world if options.world is not None else options.seed
    first = seed
    while counts.cases < options.cases and not (options.seconds and time.time() - began > options.seconds):
        different += one_world(session, seed, options, counts)
        seed += 1
        if options.verbose:
            print(f"seed {seed - 1}: {counts.cases} cases, {different} different, {time.time() - began:.0f} s", flush=True)
        if options.world is not None:
            break
    session.close()
    if options.verbose:
        for what, n in sorted(counts.hints.items(), key=lambda x: -x[1]):
            print(f"{n:6} {what}")
        print("strategies: " + ", ".join(f"{k} {n}" for k, n in sorted(counts.strategies.items())))
    print(f"oracle: seeds {first} to {seed - 1}, {counts.cases} cases, {counts.refused} refused with a hint, "
          f"{counts.compared} comparisons after {counts.batches} batches, {different} different, {time.time() - began:.0f} s")
    sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
