"""Random expressions by type over a scope, a list of (column, type); none of them can fail."""


class Expressions:
    def __init__(self, random):
        self.r = random

    def column(self, scope, kind):
        fit = [n for n, t in scope if t == kind]
        return self.r.choice(fit) if fit else None

    def any(self, scope, depth):
        kind = self.r.choice(("int", "int", "text", "text", "boolean", "numeric(10,2)", "jsonb", "timestamptz"))
        e = getattr(self, {"int": "integer", "numeric(10,2)": "numeric"}.get(kind, kind))(scope, depth)
        return e, {"numeric(10,2)": "numeric"}.get(kind, kind)

    # ---------- by type ----------

    def integer(self, scope, depth):
        r = self.r
        c = self.column(scope, "int")
        leaf = c if c and r.random() < 0.85 else str(r.randint(0, 5))
        if depth <= 0:
            return leaf
        s, j, a = self.column(scope, "text"), self.column(scope, "jsonb"), self.column(scope, "int[]")
        choices = [leaf, f"{leaf} % 3", f"({leaf} + {r.randint(1, 9)})", f"abs({leaf})", f"coalesce({leaf}, {r.randint(-1, 1)})",
                   f"nullif({leaf}, 1)", f"greatest({leaf}, {r.randint(0, 5)})",
                   f"CASE WHEN {self.boolean(scope, depth - 1)} THEN {leaf} ELSE {r.randint(-3, 3)} END"]
        if s:
            choices.append(f"length({s})")
        if j:
            choices.append(f"({j} ->> 'a')::int")
        if a:
            choices += [f"cardinality({a})", f"({a})[1]"]
        return r.choice(choices)

    def text(self, scope, depth):
        r = self.r
        c = self.column(scope, "text")
        leaf = c if c and r.random() < 0.9 else r.choice(("'a'::text", "'zz'::text"))
        if depth <= 0:
            return leaf
        j = self.column(scope, "jsonb")
        choices = [leaf, f"upper({leaf})", f"lower({leaf})", f"left({leaf}, 1)", f"({leaf} || '-x')", f"coalesce({leaf}, 'none')",
                   f"regexp_replace({leaf}, '[ab]', 'z')", f"substring({leaf} from '^.')", f"({self.integer(scope, 0)})::text",
                   f"CASE {leaf} WHEN 'a' THEN 'first' WHEN 'b' THEN NULL ELSE {leaf} END"]
        if j:
            choices += [f"{j} ->> 't'", f"({j} -> 'l' ->> 0)"]
        return r.choice(choices)

    def boolean(self, scope, depth):
        r = self.r
        if depth > 1 and r.random() < 0.35:
            return f"({self.boolean(scope, depth - 1)} {r.choice(('AND', 'OR'))} {self.boolean(scope, depth - 1)})"
        choices = [lambda: f"{self.integer(scope, 1)} {r.choice(('=', '<', '>', '<=', '<>', 'IS DISTINCT FROM'))} {self.integer(scope, 0)}",
                   lambda: f"{self.integer(scope, 0)} BETWEEN {r.randint(-2, 2)} AND {r.randint(3, 50)}",
                   lambda: f"{self.integer(scope, 0)} IN (0, 1, {r.randint(2, 9)})",
                   lambda: f"({r.choice(scope)[0]}) IS {r.choice(('NULL', 'NOT NULL'))}",
                   lambda: f"NOT ({self.integer(scope, 0)} > {r.randint(0, 9)})"]
        if self.column(scope, "text"):
            choices += [lambda: f"{self.text(scope, 0)} ~ {r.choice((chr(39) + '^[ab]' + chr(39), chr(39) + 'a' + chr(39)))}",
                        lambda: f"{self.text(scope, 1)} LIKE 'a%'", lambda: f"{self.text(scope, 0)} < 'b'"]
        if self.column(scope, "jsonb"):
            choices += [lambda: f"{self.column(scope, 'jsonb')} ? 'a'", lambda: f"{self.column(scope, 'jsonb')} @> '{{\"a\": 1}}'"]
        if self.column(scope, "boolean"):
            choices += [lambda: self.column(scope, "boolean"), lambda: f"{self.column(scope, 'boolean')} IS NOT TRUE"]
        if self.column(scope, "timestamptz"):
            choices.append(lambda: f"{self.column(scope, 'timestamptz')} > '2024-01-01 00:05:20Z'")
        if self.column(scope, "int[]"):
            choices.append(lambda: f"1 = ANY ({self.column(scope, 'int[]')})")
        return r.choice(choices)()

    def numeric(self, scope, depth):
        c = self.column(scope, "numeric(10,2)")
        return f"({c} * 1.10)" if c else f"({self.integer(scope, 0)} * 0.5)"

    def jsonb(self, scope, depth):
        c = self.column(scope, "jsonb")
        return self.r.choice([c, f"{c} -> 'a'", f"({c} -> 'l')"]) if c else f"to_jsonb({self.integer(scope, 0)})"

    def timestamptz(self, scope, depth):
        c = self.column(scope, "timestamptz")
        if c is None:
            return "timestamptz '2024-01-01Z'"
        choices = [c, f"({c} + interval '1 s')"]
        # A row without event time is in no window, where SQL gives it a row or a group.
        if not self.w.timeless:
            choices += [f"date_trunc('minute', {c})", f"tumble({c}, '10 s')"]
        return self.r.choice(choices)

    # ---------- aggregates ----------

    def aggregate(self, scope, wanted=None):
        """(expression, type)"""
        r = self.r
        x = self.integer(scope, 1) if r.random() < 0.3 else self.integer(scope, 0)
        s = self.text(scope, 0)
        y, f = self.column(scope, "numeric(10,2)"), self.column(scope, "float8")
        b, ts = self.column(scope, "boolean"), self.column(scope, "timestamptz")
        counts = [("count(*)", "bigint"), (f"count({x})", "bigint"), (f"count(DISTINCT {x})", "bigint"),
                  (f"count(DISTINCT {s})", "bigint")]
        if wanted:
            return r.choice(counts)
        choices = counts + counts + [
            (f"sum({x})", "bigint"), (f"sum({x})", "bigint"), (f"sum(DISTINCT {x})", "bigint"), (f"avg({x})", "numeric"),
            (f"min({x})", "int"), (f"max({x})", "int"), (f"min({s})", "text"), (f"max({s})", "text"), (f"bit_or({x})", "int"),
            (f"stddev({x})", "numeric"), (f"var_pop({x})", "numeric"), (f"max(DISTINCT {x})", "int"), (f"oracle_total({x})", "bigint"),
            (f"string_agg({s}, ',' ORDER BY {s})", "text"), (f"array_agg({x} ORDER BY {x})", "int[]"),
            (f"array_agg(DISTINCT {x})", "int[]"), (f"jsonb_agg({x} ORDER BY {x} DESC)", "jsonb"),
            (f"string_agg(DISTINCT {s}, ';')", "text")]
        ordered = [(f"percentile_cont(0.5) WITHIN GROUP (ORDER BY {x})", "float8"),
                   (f"percentile_disc(0.3) WITHIN GROUP (ORDER BY {x})", "int"),
                   (f"mode() WITHIN GROUP (ORDER BY {s})", "text")]
        if y:
            choices += [(f"sum({y})", "numeric"), (f"avg({y})", "numeric"), (f"max({y})", "numeric")]
        if f:
            choices += [(f"sum({f})", "float8"), (f"avg({f})", "float8"), (f"stddev({f})", "float8"), (f"min({f})", "float8")]
        if b:
            choices += [(f"bool_and({b})", "boolean"), (f"bool_or({b})", "boolean")]
        if ts:
            choices += [(f"max({ts})", "timestamptz"), (f"min({ts})", "timestamptz")]
        e, t = r.choice(choices if r.random() < 0.85 else ordered)
        if r.random() < 0.15:
            e += f" FILTER (WHERE {self.boolean(scope, 1)})"
        elif r.random() < 0.05 and t in ("int", "bigint"):
            e, t = f"coalesce({e}, 0) + 1", t
        return e, t
