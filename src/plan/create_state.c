/*-------------------------------------------------------------------------
 *
 * create_state.c
 *		State tables of continuous views, as they are made.
 *
 * The table has the layout's columns and the indexes that the strategy's statements look
 * for.  How its rows come and go decides how full its pages are and how early autovacuum
 * comes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "streamext.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

#include "catalog/sx_catalog.h"
#include "plan/create_internal.h"

char *
sx_column_sql(const char *name, Oid type, int32 typmod, Oid collation)
{
	char	   *sql = psprintf("%s %s", quote_identifier(name), sx_type_sql(type, typmod));

	if (!OidIsValid(collation) || collation == get_typcollation(type))
		return sql;
	return psprintf("%s COLLATE %s", sql, generate_collation_name(collation));
}

void
sx_append_column_sql(StringInfo sql, const SxStateColumn *column)
{
	appendStringInfo(sql, "%s\n    %s", sql->data[sql->len - 1] == '(' ? "" : ",",
					 sx_column_sql(column->name, column->type, column->typmod,
								   column->collation));
}

/*
 * Merged rows are updated again and again: half-filled pages keep the updates in
 * their page, and autovacuum comes early.  The key admits NULL, so a publication of all
 * tables needs the full replica identity; without wal_level = logical it costs nothing.
 */
Oid
sx_create_state_table(const char *name, const SxLayout *layout, bool by_time, Oid owner)
{
	const char *qualified = quote_qualified_identifier(SX_STATE_SCHEMA, name);
	StringInfoData sql;
	ListCell   *lc;
	Oid			relid;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (", qualified);
	foreach(lc, layout->columns)
	{
		SxStateColumn *column = lfirst(lc);

		sx_append_column_sql(&sql, column);
		if (layout->strategy == SX_STRATEGY_DISTINCT && column->start != NULL)
			appendStringInfo(&sql, " DEFAULT %s", quote_literal_cstr(column->start));
	}
	appendStringInfoString(&sql, ")");
	if (sx_layout_is_merged(layout))
		appendStringInfoString(&sql, " WITH (fillfactor = 50, " SX_CHURN_OPTIONS ")");
	else if (layout->strategy != SX_STRATEGY_APPEND)
		appendStringInfoString(&sql, " WITH (" SX_CHURN_OPTIONS ")");
	sx_execute_ddl(sql.data);
	sx_execute_ddl(psprintf("ALTER TABLE %s REPLICA IDENTITY FULL", qualified));
	if (layout->strategy == SX_STRATEGY_JOIN)
		sx_join_index_state(qualified, by_time);
	if (layout->strategy == SX_STRATEGY_RECOMPUTE || layout->strategy == SX_STRATEGY_REDUCE)
		sx_execute_ddl(psprintf("CREATE INDEX ON %s (sx_key)", qualified));
	if (layout->strategy == SX_STRATEGY_RETRACT)
		sx_execute_ddl(psprintf("CREATE INDEX ON %s (sx_rows) WHERE sx_rows = 0", qualified));
	if (layout->strategy == SX_STRATEGY_SESSION)
		sx_execute_ddl(psprintf("CREATE INDEX ON %s (%s)", qualified, sx_session_index_sql(layout)));
	if (sx_layout_is_merged(layout))
		sx_execute_ddl(psprintf("CREATE UNIQUE INDEX ON %s (%s) NULLS NOT DISTINCT",
								qualified, sx_key_order_sql(layout, "")));
	relid = get_relname_relid(name, get_namespace_oid(SX_STATE_SCHEMA, false));
	sx_give_to(relid, owner);
	return relid;
}

/* retention deletes by window, which only a leading key serves. */
void
sx_index_window(const char *name, const SxLayout *layout)
{
	if (sx_layout_is_merged(layout) &&
		linitial(layout->columns) == layout->window_column)
		return;
	sx_execute_ddl(psprintf("CREATE INDEX ON %s (%s)",
							quote_qualified_identifier(SX_STATE_SCHEMA, name),
							quote_identifier(layout->window_column->name)));
}

/* state_ttl: no statement names the column, but that which finds its group there. */
void
sx_add_touched(const char *name)
{
	const char *qualified = quote_qualified_identifier(SX_STATE_SCHEMA, name);

	sx_execute_ddl(psprintf("ALTER TABLE %s ADD COLUMN " SX_TOUCHED_COLUMN
							" timestamptz NOT NULL DEFAULT streamext.batch_time()", qualified));
	sx_execute_ddl(psprintf("CREATE INDEX ON %s (" SX_TOUCHED_COLUMN ")", qualified));
}
