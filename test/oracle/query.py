"""A query as a tree that can be printed and made smaller.

The generator (generate.py) builds Select objects; what differs is made smaller here by taking
away one part after another (smaller()).  A part that others need makes the query invalid when
it goes: such candidates are simply not accepted by who tries them.
"""
import copy


class Source:
    """An entry of FROM: how it is joined, a name or a Select, its alias and the condition."""

    def __init__(self, body, alias, join="", on=""):
        self.body, self.alias, self.join, self.on = body, alias, join, on

    def sql(self):
        body = self.body if isinstance(self.body, str) else "(" + self.body.sql() + ")"
        text = f"{body} {self.alias}"
        if self.join == ",":
            return ", " + text
        if self.join == ", LATERAL":
            return ", LATERAL " + text
        if self.join:
            return f" {self.join} {text}" + (f" ON {self.on}" if self.on else "")
        return text


class Sub:
    """A condition or an item with a subquery in it: before (SELECT …) after."""

    def __init__(self, before, select, after=""):
        self.before, self.select, self.after = before, select, after

    def __str__(self):
        return f"{self.before}({self.select.sql()}){self.after}"


class Select:
    def __init__(self):
        self.ctes = []          # (name, Select)
        self.distinct = ""
        self.items = []         # [expression, name, type]
        self.sources = []
        self.where = []
        self.group = []         # expressions
        self.group_form = ""    # "", ROLLUP, CUBE or GROUPING SETS
        self.having = []
        self.order = []
        self.limit = None
        self.setop = None       # (operator, Select)

    def columns(self):
        return [(name, kind) for _, name, kind in self.items]

    def group_sql(self):
        if self.group_form in ("ROLLUP", "CUBE"):
            return f"{self.group_form} ({', '.join(self.group)})"
        if self.group_form == "GROUPING SETS":
            return "GROUPING SETS (" + ", ".join(f"({g})" for g in self.group) + ", ())"
        return ", ".join(self.group)

    def sql(self):
        text = ""
        if self.ctes:
            text = "WITH " + ", ".join(f"{n} AS ({s.sql()})" for n, s in self.ctes) + " "
        text += "SELECT " + (self.distinct + " " if self.distinct else "")
        text += ", ".join(f"{e} AS {n}" for e, n, _ in self.items)
        text += " FROM " + "".join(s.sql() for s in self.sources)
        if self.where:
            text += " WHERE " + " AND ".join(f"({w})" for w in self.where)
        if self.group:
            text += " GROUP BY " + self.group_sql()
        if self.having:
            text += " HAVING " + " AND ".join(f"({h})" for h in self.having)
        if self.setop:
            text += f" {self.setop[0]} {self.setop[1].sql()}"
        if self.order:
            text += " ORDER BY " + ", ".join(self.order)
        if self.limit is not None:
            text += f" LIMIT {self.limit}"
        return text


class Timed(Select):
    """Groups by a window over the event time, and drops what is late: its batch SQL is another.

    Rows of the tables know the watermark before their batch (_wm, run.py); a final view shows the
    windows that the watermark has passed.
    """

    def __init__(self, window, size, final):
        super().__init__()
        self.window, self.size, self.final = window, size, final

    def options(self):
        return " WITH (emit = 'final')" if self.final else " WITH (late = 'drop')"

    def reference(self):
        """The batch SQL over the rows that were not late."""
        source = self.sources[0]
        plain = self.sql().replace(self.window, f"{source.alias}.w_")
        rows = f"(SELECT {source.alias}.*, {self.window} AS w_ FROM {source.body} {source.alias}) {source.alias}"
        limits = f"{source.alias}.w_ + interval '{self.size}' > {source.alias}._wm"
        if self.final:
            limits += f" AND {source.alias}.w_ + interval '{self.size}' <= (SELECT wm_ FROM {source.body}_wm)"
        plain = plain.replace(f" FROM {source.body} {source.alias}", f" FROM {rows}", 1)
        if self.where:
            return plain.replace(" WHERE ", f" WHERE {limits} AND ", 1)
        return plain.replace(" GROUP BY ", f" WHERE {limits} GROUP BY ", 1)


class Sessions(Select):
    """Groups by session windows of a fixed gap: its batch SQL numbers the islands of each key."""

    def __init__(self, gap):
        super().__init__()
        self.gap = gap

    def reference(self):
        keys = [g for g in self.group if not g.startswith("session(")]
        source = self.sources[0]
        a, gap = source.alias, f"interval '{self.gap}'"
        part = "PARTITION BY " + ", ".join(keys) + " " if keys else ""
        order = f"ORDER BY {a}.ts, {a}.id"
        where = " AND ".join([f"{a}.ts IS NOT NULL"] + [f"({w})" for w in self.where])
        rows = (f"SELECT {a}.*, CASE WHEN {a}.ts <= lag({a}.ts) OVER ({part}{order}) + {gap} THEN 0 ELSE 1 END AS fresh_ "
                f"FROM {source.body} {a} WHERE {where}")
        rows = f"SELECT {a}.*, sum(fresh_) OVER ({part}{order} ROWS UNBOUNDED PRECEDING) AS island_ FROM ({rows}) {a}"
        items = ", ".join(f"{e} AS {n}" for e, n, _ in self.items)
        items = items.replace("session_start()", f"min({a}.ts)").replace("session_end()", f"max({a}.ts) + {gap}")
        return f"SELECT {items} FROM ({rows}) {a} GROUP BY " + ", ".join(keys + [f"{a}.island_"])


class Poisoned(Select):
    """Fails for some rows, which become dead letters of this view: its batch SQL is over the others."""

    def __init__(self, column):
        super().__init__()
        self.column = column    # where it is 0, a row cannot be computed

    def fails(self):
        return any(f"/ {self.column}" in str(e) for e, _, _ in self.items)

    def reference(self):
        other = copy.copy(self)
        other.where = self.where + [f"{self.column} IS DISTINCT FROM 0"] * self.fails()
        return other.sql()

    def failing(self):
        """The condition on a row of the stream; it moves no watermark."""
        alias = self.sources[0].alias + "."
        return " AND ".join(f"({w})".replace(alias, "") for w in self.where + [f"{self.column} = 0"]) if self.fails() else "false"

    def letters(self):
        """How many dead letters the rows so far must have made."""
        other = copy.copy(self)
        other.items, other.group, other.where = [["count(*)", "n", "bigint"]], [], self.where + [f"{self.column} = 0"]
        return other.sql() if self.fails() else "SELECT 0"


def reference(select):
    return select.reference() if hasattr(select, "reference") else select.sql()


def selects(select):
    """The Select and all in it, outermost first."""
    yield select
    for _, s in select.ctes:
        yield from selects(s)
    for source in select.sources:
        if isinstance(source.body, Select):
            yield from selects(source.body)
    for part in [w for w in select.where] + [i[0] for i in select.items]:
        if isinstance(part, Sub):
            yield from selects(part.select)
    if select.setop:
        yield from selects(select.setop[1])


def reductions(s):
    """Functions that each take one part away from a Select, given by its place in selects()."""
    if s.setop:
        yield lambda t: setattr(t, "setop", None)
        yield lambda t: t.__dict__.update(t.setop[1].__dict__)
    if s.limit is not None:
        yield lambda t: setattr(t, "limit", None)
    if s.order:
        yield lambda t: setattr(t, "order", [])
        if s.limit is not None:
            yield lambda t: t.__dict__.update(order=[], limit=None)
    if s.distinct:
        yield lambda t: t.__dict__.update(distinct="", order=[])
    if s.group_form:
        yield lambda t: setattr(t, "group_form", "")
    for name in ("having", "where"):
        for i in range(len(getattr(s, name))):
            yield lambda t, name=name, i=i: getattr(t, name).pop(i)
    for i in range(len(s.ctes)):
        yield lambda t, i=i: t.ctes.pop(i)
    for i in range(1, len(s.sources)):
        yield lambda t, i=i: t.sources.pop(i)
        if s.sources[i].join not in ("JOIN", ",", ", LATERAL") and s.sources[i].on:
            yield lambda t, i=i: setattr(t.sources[i], "join", "JOIN")
        parts = s.sources[i].on.split(" AND ") if s.sources[i].on else []
        if len(parts) > 1:
            yield lambda t, i=i, parts=parts: setattr(t.sources[i], "on", parts[0])
    for i, source in enumerate(s.sources):
        if isinstance(source.body, Select) and len(source.body.sources) == 1 and isinstance(source.body.sources[0].body, str):
            yield lambda t, i=i: setattr(t.sources[i], "body", t.sources[i].body.sources[0].body)
    for i in range(len(s.group)):
        def drop(t, i=i):
            e = t.group.pop(i)
            t.items = [x for x in t.items if x[0] != e]
        yield drop
    if len(s.items) > 1:
        for i in range(len(s.items)):
            yield lambda t, i=i: t.items.pop(i)
    for i, item in enumerate(s.items):
        if isinstance(item[0], str):
            if " FILTER (WHERE " in item[0]:
                yield lambda t, i=i: t.items[i].__setitem__(0, t.items[i][0].split(" FILTER (WHERE ")[0])
            if "(DISTINCT " in item[0]:
                yield lambda t, i=i: t.items[i].__setitem__(0, t.items[i][0].replace("(DISTINCT ", "("))


def smaller(select):
    """Copies of the query, each without one part."""
    n = sum(1 for _ in selects(select))
    for place in range(n):
        for k in range(sum(1 for _ in reductions(list(selects(select))[place]))):
            candidate = copy.deepcopy(select)
            target = list(selects(candidate))[place]
            try:
                list(reductions(target))[k](target)
            except (IndexError, AttributeError):
                continue
            if target.items and target.sources:
                yield candidate
