\set ECHO none
-- What the tests share that compare views with batch SQL.  It is included in the schema of the test, say s, where
--   table query (id, sql) has the query of each view v<id>, with the columns that it needs of options (of the view),
--     shown (the query that gives what the view shows, where that is another) and rows_of (see below)
--   schema s_all, or rows_of, has a table of each stream's name with the rows that the views are made of

CREATE PROCEDURE create_views() LANGUAGE plpgsql AS $$
DECLARE
    q jsonb;
BEGIN
    FOR q IN SELECT to_jsonb(r) FROM query r ORDER BY id LOOP
        EXECUTE format('CREATE MATERIALIZED VIEW v%s%s AS %s', q ->> 'id', q ->> 'options', q ->> 'sql');
    END LOOP;
END $$;

-- views that differ from their query over these rows
CREATE FUNCTION differences() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    own text := current_schema();
    q jsonb;
    n bigint;
BEGIN
    FOR q IN SELECT to_jsonb(r) FROM query r ORDER BY id LOOP
        PERFORM set_config('search_path', format('%s, %s, public', coalesce(q ->> 'rows_of', own || '_all'), own), true);
        EXECUTE 'CREATE TEMP TABLE want AS ' || coalesce(q ->> 'shown', q ->> 'sql');
        PERFORM set_config('search_path', own || ', public', true);
        EXECUTE format('SELECT count(*) FROM ((SELECT r_::text FROM want r_ EXCEPT ALL SELECT r_::text FROM v%1$s r_)
                        UNION ALL (SELECT r_::text FROM v%1$s r_ EXCEPT ALL SELECT r_::text FROM want r_)) d', q ->> 'id') INTO n;
        DROP TABLE want;
        IF n > 0 THEN
            RETURN NEXT format('view %s: %s rows', q ->> 'id', n);
        END IF;
    END LOOP;
END $$;

-- Rows for two streams, some keys and values NULL, within half a minute from base; the same seed gives the same rows.
CREATE FUNCTION rows_a(seed int, rows int, base interval DEFAULT '0')
RETURNS TABLE (id int, k int, x int, s text, ts timestamptz) LANGUAGE sql AS $$
    SELECT seed + i, nullif(abs(hashint4(i * 7 + seed)) % 7, 6), nullif(abs(hashint4(i * 11 + seed)) % 21, 3),
           chr(97 + abs(hashint4(i * 13 + seed)) % 4),
           timestamptz '2026-01-01Z' + base + abs(hashint4(i * 17 + seed)) % 30000000 * interval '1 microsecond'
    FROM generate_series(1, rows) i ORDER BY i;
$$;

CREATE FUNCTION rows_b(seed int, rows int, base interval DEFAULT '0')
RETURNS TABLE (id int, k int, y int, ts timestamptz) LANGUAGE sql AS $$
    SELECT seed + i, nullif(abs(hashint4(i * 19 + seed)) % 7, 6), nullif(abs(hashint4(i * 23 + seed)) % 21, 3),
           timestamptz '2026-01-01Z' + base + abs(hashint4(i * 29 + seed)) % 30000000 * interval '1 microsecond'
    FROM generate_series(1, rows) i ORDER BY i;
$$;
\set ECHO all
