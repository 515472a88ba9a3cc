"""Random worlds: streams, tables, rows cut into batches, and queries over them.

Everything is drawn from one random.Random, so a seed gives the same world again.  What SQL
leaves open is not asked for: rows are numbered in an order that ends with all columns of
their source, numerics have one scale, floats are multiples of a quarter.
"""
from expression import Expressions
from query import Poisoned, Select, Sessions, Source, Sub, Timed

TYPES = {"k": "int", "x": "int", "y": "numeric(10,2)", "f": "float8", "s": "text", "g": "text", "b": "boolean",
         "j": "jsonb", "d": "date", "t2": "timestamptz", "a": "int[]"}
JOINS = ["JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]


class Stream:
    def __init__(self, name, columns):
        self.name, self.columns = name, columns


def literal(kind, value):
    if value is None:
        return "NULL"
    if isinstance(value, (int, float)):
        return str(value)
    return "'" + value.replace("'", "''") + "'"


class World:
    """What a seed gives: schema, batches and queries."""

    def __init__(self, random, queries):
        self.r = random
        self.streams = []
        for name in "abc"[:random.choice((1, 2, 2, 2, 3))]:
            names = ["k"] + sorted(random.sample([c for c in TYPES if c != "k"], random.randint(2, 6)))
            columns = [(n, TYPES[n]) for n in names] + [("ts", "timestamptz"), ("id", "int")]
            self.streams.append(Stream(name, columns))
        self.keys = random.choice((1, 3, 5, 20))
        self.watermark = random.choice(("0 seconds", "1 second", "5 seconds", "1 minute", None))
        self.timeless = random.choice((0, 0, 0.1))      # rows without event time
        self.dim = [(i, f"n{i % 3}" if i % 4 else None, i * 10) for i in range(0, 6)]
        self.derived = []       # (name, Select): row by row over one stream
        self.views = []         # (name, Select, options)
        self.batches = [self.batch(i) for i in range(random.randint(3, 6))]
        for i in range(random.randint(0, 2)):
            self.derived.append((f"dr{i}", Queries(self, f"dr{i}").row_wise()))
        for i in range(queries):
            select = Queries(self, f"v{i}").query()
            self.views.append((f"v{i}", select, select.options() if isinstance(select, Timed) else ""))

    # ---------- rows ----------

    def value(self, kind, at):
        r = self.r
        if r.random() < (0.12 if kind != "ts" else self.timeless):
            return None
        if kind == "k":
            return r.randrange(self.keys)
        if kind == "x":
            return r.choice((0, 1, 2, 3, 5, 5, 7, -4, r.randrange(100)))
        if kind == "y":
            return f"{r.randrange(-300, 1000) / 4:.2f}"
        if kind == "f":
            return r.randrange(-20, 60) / 4
        if kind in ("s", "g"):
            return r.choice(("", "a", "b", "c", "ab", "A", "bar", "ü", "it's", 'q"\\'))
        if kind == "b":
            return r.choice(("t", "f"))
        if kind == "j":
            return r.choice(("{}", '{"a": 1}', '{"a": 2, "t": "x"}', '{"t": "y", "l": [1, 2]}', '{"a": null}', "[1, 2]"))
        if kind == "d":
            return f"2024-01-{r.randint(1, 4):02d}"
        if kind == "a":
            return r.choice(("{}", "{1}", "{1,2,2}", "{NULL,3}"))
        return self.time(at)

    def time(self, at):
        us = int((at * 10 + self.r.uniform(-20, 12)) * 4) * 250000
        us = 300 * 1000000 + us
        return f"2024-01-01 00:{us // 60000000:02d}:{us % 60000000 / 1e6:09.6f}Z"

    def batch(self, at):
        """Rows of each stream, as tuples of SQL literals."""
        result = {}
        size = self.r.choice((1, 1, 4, 8, 8, 15))
        for s in self.streams:
            rows = []
            for i in range(self.r.randint(0, size)):
                row = []
                for name, _ in s.columns:
                    if name == "id":
                        row.append(str(at * 1000 + i))
                    else:
                        row.append(literal(name, self.value(name, at)))
                rows.append(tuple(row))
                if self.r.random() < 0.05:
                    rows.append(tuple(row))
            result[s.name] = rows
        return result


class Queries(Expressions):
    """One random query over a world."""

    def __init__(self, world, name):
        super().__init__(world.r)
        self.w, self.name, self.aliases = world, name, 0

    def alias(self):
        self.aliases += 1
        return f"q{self.aliases}"

    def column_list(self, scope, kinds=None, most=3):
        fit = [c for c in scope if kinds is None or c[1] in kinds]
        return self.r.sample(fit, min(len(fit), self.r.randint(1, most)))

    # ---------- FROM ----------

    def relation(self, depth):
        """(body, columns) of something to read."""
        r, w = self.r, self.w
        p = r.random()
        if depth > 0 and p < 0.30:
            s = self.select(depth - 1)
            return s, s.columns()
        if p < 0.45 and w.derived and self.name[0] == "v":
            name, s = r.choice(w.derived)
            return name, s.columns()
        if p < 0.58 and w.views and self.name[0] == "v":
            name, s, options = r.choice(w.views)
            if not options:
                return name, s.columns()
        s = r.choice(w.streams)
        return s.name, s.columns

    def source(self, depth, join="", scope=()):
        body, columns = self.relation(depth)
        alias = self.alias()
        return Source(body, alias, join), [(f"{alias}.{n}", t) for n, t in columns]

    def add_dim(self, s, scope):
        """A table joined row by row: only beside streams."""
        alias = self.alias()
        keys = [n for n, t in scope if t == "int"]
        if not keys:
            return scope
        join = self.r.choice(("JOIN", "LEFT JOIN"))
        s.sources.append(Source("dim", alias, join, f"{alias}.k = {self.r.choice(keys)}"))
        return scope + [(f"{alias}.name", "text"), (f"{alias}.v", "int")]

    def equality(self, left, right):
        # With a watermark a join bounded by the event time drops late rows: test/sql/join_oracle.sql.
        kinds = ("int", "text", "date", "boolean") + (() if self.w.watermark else ("timestamptz",))
        pairs = [(l, r) for l, lt in left for r, rt in right if lt == rt and lt in kinds]
        keys = [(l, r) for l, r in pairs if l.endswith(".k") and r.endswith(".k")]
        if keys and self.r.random() < 0.8:
            return "{} = {}".format(*keys[0])
        return "{} = {}".format(*self.r.choice(pairs)) if pairs else None

    def join_condition(self, left, right, full):
        on = self.equality(left, right)
        if on is None:
            return None
        p = self.r.random()
        times = [n for n, t in left if t == "timestamptz"], [n for n, t in right if t == "timestamptz"]
        ints = [n for n, t in left if t == "int"], [n for n, t in right if t == "int"]
        if p < 0.2 and all(times) and not self.w.watermark:
            a, b = self.r.choice(times[0]), self.r.choice(times[1])
            on += f" AND {a} >= {b} - interval '5 s' AND {a} <= {b} + interval '10 s'"
        elif p < 0.4 and all(ints):
            on += f" AND {self.r.choice(ints[0])} {self.r.choice(('<', '<=', '<>'))} {self.r.choice(ints[1])}"
        elif p < 0.5:
            on += " AND " + self.boolean(right, 1)
        return on

    def from_clause(self, s, depth):
        """Fills sources; returns the scope."""
        r = self.r
        source, scope = self.source(depth)
        s.sources.append(source)
        base = isinstance(source.body, str) and source.body in [x.name for x in self.w.streams]
        if base and r.random() < 0.2:
            return self.add_dim(s, scope)
        if r.random() < 0.4:
            for _ in range(r.choice((1, 1, 1, 2))):
                right, columns = self.source(depth)
                join = r.choice(JOINS)
                on = self.join_condition(scope, columns, join == "FULL JOIN")
                if on is None:
                    continue
                right.join, right.on = join, on
                s.sources.append(right)
                scope = scope + columns
        elif r.random() < 0.05 and depth > 0:
            inner, columns = self.source(0)
            t = Select()
            t.sources = [inner]
            eq = self.equality(scope, columns)
            if eq is not None:
                t.where = [eq]
                alias = self.alias()
                some = self.column_list(columns)
                t.items = [[n, f"c{i}", k] for i, (n, k) in enumerate(some)]
                t.order = [n for n, k in columns]
                t.limit = r.choice((1, 2))
                s.sources.append(Source(t, alias, ", LATERAL"))
                scope = scope + [(f"{alias}.c{i}", k) for i, (n, k) in enumerate(some)]
        elif r.random() < 0.05 and any(t == "int[]" for _, t in scope):
            alias = self.alias()
            col = [n for n, t in scope if t == "int[]"][0]
            s.sources.append(Source(f"unnest({col})", f"{alias}(e)", ","))
            scope = scope + [(f"{alias}.e", "int")]
        return scope

    # ---------- WHERE with subqueries ----------

    def subquery_condition(self, scope):
        r = self.r
        inner, columns = self.source(0)
        t = Select()
        t.sources = [inner]
        if r.random() < 0.5:
            eq = self.equality(scope, columns)
            if eq is None:
                return None
            t.where = [eq]
            if r.random() < 0.4:
                t.where.append(self.boolean(columns, 1))
            t.items = [["1", "one", "int"]]
            return Sub(r.choice(("EXISTS ", "NOT EXISTS ")), t)
        pairs = [(l, c) for l, lt in scope for c, ct in columns if lt == ct and lt in ("int", "text", "date")]
        if not pairs:
            return None
        l, c = r.choice(pairs)
        t.items = [[c, "c1", "int"]]
        if r.random() < 0.4:
            t.where.append(self.boolean(columns, 1))
        return Sub(f"{l} {r.choice(('IN', 'IN', 'NOT IN'))} ", t)

    def scalar_subquery(self, scope):
        inner, columns = self.source(0)
        eq = self.equality(scope, columns)
        numbers = [c for c in columns if c[1] == "int"]
        if eq is None or not numbers:
            return None
        t = Select()
        t.sources, t.where = [inner], [eq]
        f = self.r.choice(("max", "min", "count", "sum"))
        t.items = [[f"{f}({self.r.choice(numbers)[0]})", "c1", "int" if f in ("max", "min") else "bigint"]]
        return Sub("", t), t.items[0][2]

    def conditions(self, s, scope):
        r = self.r
        for _ in range(r.choice((0, 0, 1, 1, 2))):
            s.where.append(self.boolean(scope, 2))
        if r.random() < 0.15:
            c = self.subquery_condition(scope)
            if c is not None:
                s.where.append(c)

    # ---------- shapes ----------

    def plain(self, s, scope, depth):
        r = self.r
        for i in range(r.randint(1, 4)):
            e, t = (r.choice(scope)) if r.random() < 0.5 else self.any(scope, 2)
            s.items.append([e, f"c{i}", t])
        if r.random() < 0.1:
            sub = self.scalar_subquery(scope)
            if sub is not None:
                s.items.append([sub[0], f"c{len(s.items)}", sub[1]])
        if r.random() < 0.15:
            s.distinct = "DISTINCT"

    def grouped(self, s, scope, depth):
        r = self.r
        for i in range(r.choice((0, 1, 1, 1, 2, 2, 3))):
            times = [n for n, t in scope if n.endswith(".ts")]
            # A row without event time is in no window, where SQL gives it a group of its own.
            if times and not self.w.timeless and r.random() < 0.25:
                e, t = f"tumble({r.choice(times)}, '{r.choice((2, 10))} s')", "timestamptz"
                if r.random() < 0.25 and not any("hop(" in x[0] for x in s.items):
                    e = f"hop({r.choice(times)}, '{r.choice((2, 5))} s', '10 s')"
            elif r.random() < 0.7:
                e, t = r.choice(scope)
            else:
                e, t = self.any(scope, 1)
            if e in s.group or t == "float8" or "." not in e:
                continue
            s.group.append(e)
            s.items.append([e, f"c{i}", t])
        if len(s.group) > 1 and r.random() < 0.2 and not any("hop(" in g for g in s.group):
            s.group_form = r.choice(("ROLLUP", "CUBE", "GROUPING SETS"))
        for i in range(r.randint(1, 4)):
            e, t = self.aggregate(scope)
            s.items.append([e, f"a{i}", t])
        if r.random() < 0.2:
            e, t = self.aggregate(scope, ("count", "int"))
            s.having.append(f"{e} {r.choice(('>', '>=', '<', '<>'))} {r.randint(0, 4)}")

    def distinct_on(self, s, scope, depth):
        keys = self.column_list(scope, ("int", "text", "boolean", "date"), 2) or scope[:1]
        s.distinct = "DISTINCT ON (" + ", ".join(k for k, _ in keys) + ")"
        s.items = [[n, f"c{i}", t] for i, (n, t) in enumerate(scope)]
        s.order = [k for k, _ in keys] + self.total(scope)

    def total(self, scope):
        """An order of all rows: a few columns in any direction, then every one."""
        r = self.r
        some = [n + r.choice(("", " DESC", " DESC NULLS LAST", " NULLS FIRST")) for n, t in self.column_list(scope, None, 2)]
        return some + [n for n, _ in scope]

    def window(self, s, scope, depth):
        r = self.r
        inner = Select()
        inner.sources, s.sources = s.sources, []
        inner.where, s.where = s.where, []
        part = self.column_list(scope, ("int", "text", "boolean", "date"), 2) if r.random() < 0.85 else []
        over = ("PARTITION BY " + ", ".join(n for n, _ in part)) if part else ""
        some = self.column_list(scope, None, 4)
        inner.items = [[n, f"c{i}", t] for i, (n, t) in enumerate(some)]
        ties = ", ".join(n + r.choice(("", " DESC")) for n, t in self.column_list(scope, None, 1))
        full = ", ".join(self.total(scope))
        numbers = [n for n, t in scope if t == "int"] or ["1"]
        x = r.choice(numbers)
        ranked = r.choice((f"row_number() OVER ({over} ORDER BY {full})", f"rank() OVER ({over} ORDER BY {ties})",
                           f"dense_rank() OVER ({over} ORDER BY {ties})"))
        if r.random() < 0.55:
            inner.items.append([ranked, "rn", "bigint"])
            alias = self.alias()
            s.sources = [Source(inner, alias)]
            s.items = [[f"{alias}.{n}", n, t] for n, t in inner.columns()]
            s.where = [f"{alias}.rn {r.choice(('<=', '<', '='))} {r.randint(1, 3)}"]
            return
        s.__dict__.update(inner.__dict__)
        frame = r.choice(("", "ROWS BETWEEN 2 PRECEDING AND CURRENT ROW", "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"))
        f, t = r.choice(((f"sum({x})", "bigint"), (f"lag({x})", "int"), (f"lead({x}, 2)", "int"), (f"count({x})", "bigint"),
                         (f"first_value({x})", "int"), (f"max({x})", "int"), ("ntile(3)", "int")))
        if f.startswith(("lag", "lead", "ntile")):
            frame = ""
        s.items.append([f"{f} OVER ({over} ORDER BY {full} {frame})", "w1", t])
        if r.random() < 0.3:
            s.items.append([f"count(*) OVER ({over})", "w2", "bigint"])

    def top(self, s, scope, depth):
        some = self.column_list(scope, None, 4)
        s.items = [[n, f"c{i}", t] for i, (n, t) in enumerate(some)]
        s.order = self.total(scope)
        s.limit = self.r.randint(1, 5)

    def highest(self, s, scope, depth):
        """Rows joined with the highest or lowest of their group, mostly of the same rows."""
        r = self.r
        first = s.sources[0]
        columns = [(n, t) for n, t in scope if n.startswith(first.alias + ".")]
        values = [n for n, t in columns if t in ("int", "numeric(10,2)", "date", "timestamptz", "text")]
        where = [w for w in s.where if isinstance(w, str) and not any(a.alias + "." in w for a in s.sources[1:])]
        if not isinstance(first.body, str) or not values:
            return self.plain(s, scope, depth)
        keys = [n for n, _ in self.column_list(columns, ("int", "text", "boolean", "date"), 2)]
        rows, groups, value = Select(), Select(), r.choice(values)
        other, below, m = self.alias(), self.alias(), self.alias()
        rows.sources, rows.where = [Source(first.body, first.alias)], where
        rows.items = [[n, n.split(".")[1], t] for n, t in columns]
        groups.sources = [Source(first.body, other)]
        groups.where = [w.replace(first.alias + ".", other + ".") for w in where] if r.random() < 0.85 else []
        groups.group = [n.replace(first.alias + ".", other + ".") for n in keys]
        groups.items = [[n, f"g{i}", "int"] for i, n in enumerate(groups.group)]
        groups.items.append([f"{r.choice(('max', 'min'))}({value.replace(first.alias + '.', other + '.')})", "m", "int"])
        on = [f"{below}.{n.split('.')[1]} = {m}.g{i}" for i, n in enumerate(keys)] + [f"{below}.{value.split('.')[1]} = {m}.m"]
        if r.random() < 0.1:
            on.pop(0)
        s.sources = [Source(rows, below), Source(groups, m, r.choice(("JOIN", "JOIN", "JOIN", "LEFT JOIN")), " AND ".join(on))]
        s.where = []
        self.plain(s, [(f"{below}.{n}", t) for n, t in rows.columns()], depth)
        if r.random() < 0.3:
            s.items.append([f"{m}.m", "m", "text"])

    def set_operation(self, s, scope, depth):
        r = self.r
        some = self.column_list(scope, ("int", "text", "boolean", "date", "timestamptz"), 2)
        if not some:
            return self.plain(s, scope, depth)
        other = Select()
        columns = self.from_clause(other, 0)
        self.conditions(other, columns)
        s.items = [[n, f"c{i}", t] for i, (n, t) in enumerate(some)]
        for i, (_, t) in enumerate(some):
            fit = [n for n, k in columns if k == t]
            other.items.append([r.choice(fit) if fit else f"NULL::{t}", f"c{i}", t])
        s.setop = (r.choice(("UNION", "UNION ALL", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL")), other)

    def select(self, depth):
        r = self.r
        s = Select()
        scope = self.from_clause(s, depth)
        self.conditions(s, scope)
        shape = r.choices((self.plain, self.grouped, self.distinct_on, self.window, self.top, self.set_operation, self.highest),
                          (25, 40, 5, 13, 4, 8, 6))[0]
        shape(s, scope, depth)
        return s

    def with_cte(self, depth):
        inner, s = self.select(depth - 1), Select()
        s.ctes = [("w1", inner)]
        a, b = self.alias(), self.alias()
        left = [(f"{a}.{n}", t) for n, t in inner.columns()]
        right = [(f"{b}.{n}", t) for n, t in inner.columns()]
        s.sources = [Source("w1", a)]
        on = self.equality(left, right)
        if on is not None and self.r.random() < 0.6:
            s.sources.append(Source("w1", b, self.r.choice(("JOIN", "LEFT JOIN")), on))
            left = left + right
        self.r.choice((self.plain, self.grouped))(s, left, depth)
        return s

    def timed(self):
        """A window over the event time that closes: late rows are dropped."""
        r = self.r
        stream = r.choice(self.w.streams)
        alias = self.alias()
        slide, size = r.choice((("", "10 s"), ("", "4 s"), ("'5 s', ", "10 s"), ("'2 s', ", "10 s")))
        window = f"hop({alias}.ts, {slide}'{size}')" if slide else f"tumble({alias}.ts, '{size}')"
        s = Timed(window, size, r.random() < 0.5)
        scope = [(f"{alias}.{n}", t) for n, t in stream.columns]
        s.sources = [Source(stream.name, alias)]
        s.where = [self.boolean(scope, 1)] if r.random() < 0.5 else []
        s.group, s.items = [window], [[window, "c0", "timestamptz"]]
        if r.random() < 0.6:
            e, t = r.choice([c for c in scope if c[1] not in ("float8", "timestamptz")])
            s.group.append(e)
            s.items.append([e, "c1", t])
        for i in range(r.randint(1, 3)):
            e, t = self.aggregate(scope)
            s.items.append([e, f"a{i}", t])
        return s

    def one_stream(self, s):
        """Reads a stream row by row; returns the scope."""
        stream = self.r.choice(self.w.streams)
        alias = self.alias()
        scope = [(f"{alias}.{n}", t) for n, t in stream.columns]
        s.sources = [Source(stream.name, alias)]
        s.where = [self.boolean(scope, 1)] if self.r.random() < 0.4 else []
        return scope

    def sessions(self):
        """Session windows of a key; every row counts, and may join sessions that were apart."""
        r = self.r
        s = Sessions(f"{r.choice((1, 3, 8))} s")
        scope = self.one_stream(s)
        for e, t in self.column_list(scope, ("int", "text", "boolean", "date"), 2) if r.random() < 0.8 else []:
            if not e.endswith(".id"):
                s.group.append(e)
                s.items.append([e, f"c{len(s.group)}", t])
        s.group.append(f"session({s.sources[0].alias}.ts, '{s.gap}')")
        s.items += [["session_start()", "s0", "timestamptz"], ["session_end()", "s1", "timestamptz"]]
        for i in range(r.randint(1, 3)):
            e, t = self.aggregate(scope)
            s.items.append([e, f"a{i}", t])
        return s

    def poisoned(self):
        """A division that fails for rows with a 0: they are this view's dead letters, and nobody else's."""
        r = self.r
        s = Poisoned("")
        scope = self.one_stream(s)
        s.column = r.choice([n for n, t in scope if t == "int" and not n.endswith(".id")])
        if r.random() < 0.5:
            s.items = [[f"100 / {s.column}", "p", "int"]] + [[n, f"c{i}", t] for i, (n, t) in enumerate(self.column_list(scope))]
            return s
        keys = self.column_list(scope, ("int", "text", "boolean", "date"), 2)
        s.group = [n for n, _ in keys]
        s.items = [[n, f"c{i}", t] for i, (n, t) in enumerate(keys)] + [[f"sum(100 / {s.column})", "p", "bigint"]]
        e, t = self.aggregate(scope)
        s.items.append([e, "a0", t])
        return s

    def query(self):
        if self.w.watermark and not self.w.timeless and self.r.random() < 0.12:
            return self.timed()
        if self.w.watermark and self.r.random() < 0.06:
            return self.sessions()
        if self.r.random() < 0.05:
            return self.poisoned()
        if self.r.random() < 0.1:
            return self.with_cte(1)
        return self.select(self.r.choice((0, 1, 1, 2)))

    def row_wise(self):
        """A derived stream: all columns of a stream, some anew, filtered."""
        r = self.r
        stream, s = r.choice(self.w.streams), Select()
        alias = self.alias()
        scope = [(f"{alias}.{n}", t) for n, t in stream.columns]
        s.sources = [Source(stream.name, alias)]
        for (e, t), (n, _) in zip(scope, stream.columns):
            if t == "int" and n == "x" and r.random() < 0.3:
                e = f"{e} + 1"
            s.items.append([e, n, t])
        s.where = [self.boolean(scope, 1)] if r.random() < 0.7 else []
        return s
