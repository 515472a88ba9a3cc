"""Runs a world: makes streams and views, feeds batches, and compares after each of them.

Schema o holds the streams and the continuous views, o_all tables with all rows accepted so far
and ordinary views of the same names and text over them: the batch SQL.
"""
import re

from psql import Lost
from query import Poisoned, reference

PREPARE = """
SET client_min_messages = error;
DROP SCHEMA IF EXISTS o CASCADE;
DROP SCHEMA IF EXISTS o_all CASCADE;
DROP AGGREGATE IF EXISTS public.oracle_total(bigint);
CREATE AGGREGATE public.oracle_total(bigint) (sfunc = int8pl, stype = bigint, initcond = '0');
CREATE OR REPLACE FUNCTION public.oracle_differences() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    v record;
    n bigint;
BEGIN
    FOR v IN SELECT c.relname AS name, string_agg(CASE WHEN atttypid IN (700, 701) THEN format('round(%I::numeric, 6)::text', attname)
                    ELSE format('%I::text', attname) END, ', ' ORDER BY attnum) AS list
             FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0
             WHERE relnamespace = 'o_all'::regnamespace AND relname ~ '^v[0-9]' GROUP BY 1 ORDER BY length(c.relname), 1 LOOP
        EXECUTE format('SELECT count(*) FROM ((SELECT %1$s FROM o_all.%2$I EXCEPT ALL SELECT %1$s FROM o.%2$I)
                        UNION ALL (SELECT %1$s FROM o.%2$I EXCEPT ALL SELECT %1$s FROM o_all.%2$I)) d', v.list, v.name) INTO n;
        IF n > 0 THEN
            RETURN NEXT v.name;
        END IF;
    END LOOP;
END $$;
SET client_min_messages = warning;
"""

TYPE_CHECK = """SELECT a.attname, a.atttypid::regtype, b.atttypid::regtype FROM pg_attribute a
    FULL JOIN (SELECT * FROM pg_attribute WHERE attrelid = 'o.{0}'::regclass AND attnum > 0) b ON a.attname = b.attname AND a.attnum = b.attnum
    WHERE a.attrelid = 'o_all.{0}'::regclass AND a.attnum > 0 AND a.atttypid IS DISTINCT FROM b.atttypid"""


class Difference(Exception):
    """A view that is not its SELECT, or a server that did what it must not do."""

    def __init__(self, view, what, batch=None):
        super().__init__(f"{view}: {what}")
        self.view, self.what, self.batch = view, what, batch


class Counts:
    def __init__(self):
        self.cases = self.refused = self.invalid = self.compared = self.batches = 0
        self.strategies, self.hints = {}, {}

    def note(self, table, key):
        table[key] = table.get(key, 0) + 1


def stream_sql(world, stream, first):
    columns = ", ".join(f"{n} {t}" for n, t in stream.columns)
    options = "connector = 'queue', pipeline = 'oracle'" + (", paused" if first else "")
    if world.watermark:
        options += f", event_time = 'ts', watermark = '{world.watermark}'"
    return f"CREATE STREAM {stream.name} ({columns}) WITH ({options})"


def schema_sql(world):
    """Statements that make both schemas, as they would be typed."""
    yield "DROP SCHEMA IF EXISTS o CASCADE"
    yield "DROP SCHEMA IF EXISTS o_all CASCADE"
    yield "CREATE SCHEMA o"
    yield "CREATE SCHEMA o_all"
    yield "SET search_path = o, public"
    for i, s in enumerate(world.streams):
        yield stream_sql(world, s, i == 0)
        yield f"CREATE TABLE o_all.{s.name} ({', '.join(f'{n} {t}' for n, t in s.columns)}, _wm timestamptz, _moves boolean)"
        if world.watermark:
            yield f"CREATE VIEW o_all.{s.name}_wm AS SELECT max(ts) FILTER (WHERE _moves) - interval '{world.watermark}' AS wm_ FROM o_all.{s.name}"
    rows = ", ".join("({}, {}, {})".format(k, f"'{n}'" if n else "NULL::text", v) for k, n, v in world.dim)
    yield f"CREATE TABLE dim AS SELECT * FROM (VALUES {rows}) d (k, name, v)"
    for name, s in world.derived:
        yield f"CREATE STREAM {name} AS {s.sql()}"
        yield "SET search_path = o_all, o, public"
        yield f"CREATE VIEW o_all.{name} AS {s.sql()}"
        yield "SET search_path = o, public"


def failing(world, stream, made):
    """The condition on rows that become dead letters, which move no watermark."""
    some = [s.failing() for n, s, _ in world.views if n in made and isinstance(s, Poisoned) and s.sources[0].body == stream]
    return " OR ".join(f"coalesce({c}, false)" for c in some) or "false"


def feed_sql(world, rows, made):
    """The rows, and the watermark that they find."""
    for name, some in rows.items():
        if some:
            values = ", ".join("(" + ", ".join(r) + ")" for r in some)
            yield f"INSERT INTO o.{name} VALUES {values}"
            yield f"INSERT INTO o_all.{name} VALUES {values}"
            if world.watermark:
                yield (f"UPDATE o_all.{name} SET _moves = NOT ({failing(world, name, made)}), "
                       f"_wm = coalesce((SELECT max(ts) FROM o_all.{name} WHERE _wm IS NOT NULL AND _moves) - interval '{world.watermark}', '-infinity') WHERE _wm IS NULL")


def make_view(session, name, select, options, counts):
    """False: refused, or not SQL at all."""
    text = select.sql()
    session.must("SET search_path = o_all, o, public")
    _, error = session.run(f"CREATE VIEW o_all.{name} AS {reference(select)}")
    if error is None:
        _, error = session.run(f"SELECT * FROM o_all.{name}")
        if error is not None:
            session.must(f"DROP VIEW o_all.{name}")
    session.must("SET search_path = o, public")
    if error is not None:
        counts.invalid += 1
        counts.note(counts.hints, "INVALID " + error[1].split("\n")[0])
        return False
    counts.cases += 1
    try:
        _, error = session.run(f"CREATE MATERIALIZED VIEW {name}{options} AS {text}")
    except Lost as e:
        raise Difference(name, f"lost: {e}") from None
    if error is not None:
        if error[0] == "XX000" or "HINT:" not in error[1]:
            raise Difference(name, f"refused without a hint: {error[1]} ({error[0]})")
        session.must(f"DROP VIEW o_all.{name}")
        counts.refused += 1
        counts.note(counts.hints, re.sub(r".*ERROR: *", "", error[1].split("\n")[0]))
        return False
    wrong, _ = session.run(TYPE_CHECK.format(name))
    if wrong:
        raise Difference(name, f"types differ: {wrong}")
    for line in session.must(f"SELECT strategy FROM streamext.views WHERE view = 'o.{name}'::regclass"):
        counts.note(counts.strategies, line)
    return True


def drain(session, how, i):
    """One batch, in one of the ways in which batches are run."""
    if how == "worker":
        session.must("SELECT streamext.resume('oracle')")
        done = session.must("SELECT streamext.wait('oracle', '30 seconds')")
        session.must("SELECT streamext.pause('oracle')")
        if done != ["t"]:
            raise Difference("", "the worker did not come to the end: " +
                             "; ".join(session.must("SELECT state, error_message FROM streamext.pipelines")), i)
        return
    if how == "reconnect":
        session.close()
        session.must("SET search_path = o, public")
    if how == "rollback":
        session.must("BEGIN")
        _, error = session.run("SELECT batch_id FROM streamext.step('oracle')")
        session.must("ROLLBACK")
    while True:
        lines, error = session.run("SELECT batch_id, dead_letters FROM streamext.step('oracle')")
        if error:
            raise Difference("", f"step: {error[1]} ({error[0]})", i)
        if not lines:
            break


def check_letters(session, world, made, i):
    """Rows that must fail did, once, and were not lost."""
    for name, select, _ in world.views:
        if name in made and isinstance(select, Poisoned):
            session.must("SET search_path = o_all, o, public")
            lines = session.must(f"SELECT ({select.letters()}), (SELECT count(*) FROM streamext.dead_letters WHERE view = 'o.{name}'::regclass AND sqlstate = '22012')")
            session.must("SET search_path = o, public")
            want, have = lines[0].split("|")
            if want != have:
                raise Difference(name, f"{have} dead letters, not {want}", i)


def check(session, world, made, i):
    check_letters(session, world, made, i)
    fails = ", ".join(f"'o.{n}'::regclass" for n, s, _ in world.views if n in made and isinstance(s, Poisoned)) or "0::regclass"
    trouble = session.must(f"SELECT view, message FROM streamext.dead_letters WHERE pipeline = 'oracle' AND (view NOT IN ({fails}) OR sqlstate <> '22012') LIMIT 3") + \
        session.must("SELECT pipeline, state, error_message FROM streamext.pipelines WHERE pipeline <> 'oracle' OR error_message IS NOT NULL")
    if trouble:
        raise Difference(trouble[0].split("|")[0].replace("o.", ""), "dead letters or errors: " + "; ".join(trouble), i)
    lines, error = session.run("SELECT * FROM public.oracle_differences()")
    if error:
        raise Difference("", f"reading the views: {error[1]} ({error[0]})", i)
    if lines:
        raise Difference(lines[0], "differs (with " + " ".join(lines) + ")" if len(lines) > 1 else "differs", i)


def run_world(session, world, batches, ways, counts):
    """Raises Difference; leaves the schemas for who wants to look."""
    try:
        for statement in schema_sql(world):
            session.must(statement)
        made = set()
        gone = set()
        for name, select, options in world.views:
            if any(f" {g} " in select.sql() for g in gone):
                gone.add(name)
            elif make_view(session, name, select, options, counts):
                made.add(name)
            else:
                gone.add(name)
        for i, rows in enumerate(batches):
            for statement in feed_sql(world, rows, made):
                session.must(statement)
            drain(session, ways[i], i)
            check(session, world, made, i)
            counts.batches += 1
            counts.compared += len(made)
    except Lost as e:
        session.close()
        raise Difference("", f"lost: {e}") from None


def script(world, batches, ways, note):
    """The world as SQL, in the form of a regression test."""
    lines = [f"-- {note}"]
    lines += [s + ";" for s in schema_sql(world) if not s.startswith("DROP")]
    for name, select, options in world.views:
        lines.append(f"CREATE MATERIALIZED VIEW {name}{options} AS {select.sql()};")
        lines += ["SET search_path = o_all, o, public;", f"CREATE VIEW o_all.{name} AS {reference(select)};", "SET search_path = o, public;"]
    for i, rows in enumerate(batches):
        lines += [s + ";" for s in feed_sql(world, rows, [v[0] for v in world.views])]
        if ways[i] == "worker":
            lines += ["SELECT streamext.resume('oracle'), streamext.wait('oracle');", "SELECT streamext.pause('oracle');"]
        else:
            lines += ["BEGIN; SELECT batch_id FROM streamext.step('oracle'); ROLLBACK;"] if ways[i] == "rollback" else []
            lines.append("SELECT batch_id FROM streamext.step('oracle');")
    for name, _, _ in world.views:
        lines.append(f"SELECT * FROM {name} v EXCEPT ALL SELECT * FROM o_all.{name} v;  -- too much")
        lines.append(f"SELECT * FROM o_all.{name} v EXCEPT ALL SELECT * FROM {name} v;  -- missing")
    return "\n".join(lines)
