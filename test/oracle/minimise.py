"""Makes what differs smaller: views, batches, rows, then parts of the query."""
import copy

from query import smaller
from run import Counts, Difference, run_world

TRIES = 400


class Trial:
    def __init__(self, session, view, what):
        self.session, self.view, self.what, self.tries = session, view, kind(what), 0

    def fails(self, world, batches, ways):
        """The difference, when it is still of the same kind."""
        self.tries += 1
        if self.tries > TRIES:
            return False
        try:
            run_world(self.session, world, batches, ways, Counts())
        except Difference as e:
            self.session.close()
            return kind(e.what) == self.what and self.view in ("", e.view)
        except RuntimeError:
            self.session.close()
            return False
        return False


def kind(what):
    return what if what.startswith(("refused", "dead")) else what.split(" ")[0].split(":")[0]


def needed(views, name):
    """The view and those that it stands on."""
    keep, text = {name}, {v[0]: v[1].sql() for v in views}
    while True:
        more = {v for v in text if v not in keep and any(f" {v} " in text[k] for k in keep if k in text)}
        if not more:
            return [v for v in views if v[0] in keep]
        keep |= more


def with_views(world, views):
    result = copy.copy(world)
    result.views = views
    return result


def fewer_rows(trial, world, batches, ways):
    """Chunks of rows, from halves to single ones."""
    places = [(i, name, k) for i, b in enumerate(batches) for name, rows in b.items() for k in range(len(rows))]
    size = max(1, len(places) // 2)
    while True:
        at = 0
        while at < len(places):
            rest = places[:at] + places[at + size:]
            if trial.fails(world, pick(batches, rest), ways):
                places = rest
            else:
                at += size
        if size == 1:
            return pick(batches, places)
        size = max(1, size // 2)


def pick(batches, places):
    keep = set(places)
    return [{name: [r for k, r in enumerate(rows) if (i, name, k) in keep] for name, rows in b.items()} for i, b in enumerate(batches)]


def minimise(session, world, batches, ways, difference):
    trial = Trial(session, difference.view, difference.what)
    if difference.batch is not None:
        batches, ways = batches[:difference.batch + 1], ways[:difference.batch + 1]
    if difference.view:
        alone = with_views(world, needed(world.views, difference.view))
        if alone.views and trial.fails(alone, batches, ways):
            world = alone
    plain = ["step"] * len(ways)
    if trial.fails(world, batches, plain):
        ways = plain
    batches = fewer_rows(trial, world, batches, ways)
    used = [i for i, b in enumerate(batches) if any(b.values())]
    if trial.fails(world, [batches[i] for i in used], [ways[i] for i in used]):
        batches, ways = [batches[i] for i in used], [ways[i] for i in used]
    world = fewer_parts(trial, world, batches, ways)
    if world.derived and trial.fails(derived_gone(world), batches, ways):
        world = derived_gone(world)
    return world, fewer_rows(trial, world, batches, ways), ways


def derived_gone(world):
    result = copy.copy(world)
    result.derived = []
    return result


def fewer_parts(trial, world, batches, ways):
    again = True
    while again:
        again = False
        for i, (name, select, options) in enumerate(world.views):
            for candidate in smaller(select):
                views = list(world.views)
                views[i] = (name, candidate, options)
                if trial.fails(with_views(world, views), batches, ways):
                    world, again = with_views(world, views), True
                    break
    return world
