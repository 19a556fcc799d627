from django.db import migrations

# As in 0008; and what the planner is told of columns, which LIKE leaves behind.
_LIKE = """
    CREATE OR REPLACE FUNCTION kassa_make_like(name text, pattern text) RETURNS void
    LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
    DECLARE
        line text;
    BEGIN
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', name, pattern);
        SELECT string_agg(option, ', ') INTO line
          FROM pg_class, unnest(reloptions) AS option WHERE oid = pattern::regclass;
        IF line IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I SET (%s)', name, line);
        END IF;
        SELECT string_agg(told, ', ') INTO line
          FROM (SELECT format('ALTER %I SET STATISTICS %s', attname, attstattarget) AS told
                  FROM pg_attribute
                 WHERE attrelid = pattern::regclass AND attnum > 0 AND attstattarget >= 0
                 UNION ALL
                SELECT format('ALTER %I SET (%s)', attname, option)
                  FROM pg_attribute, unnest(attoptions) AS option
                 WHERE attrelid = pattern::regclass AND attnum > 0) AS columns;
        IF line IS NOT NULL THEN
            EXECUTE format('ALTER TABLE %I %s', name, line);
        END IF;
        FOR line IN
            SELECT pg_get_triggerdef(oid) FROM pg_trigger
             WHERE tgrelid = pattern::regclass AND NOT tgisinternal AND tgparentid = 0
        LOOP
            EXECUTE replace(line, format(' ON public.%I ', pattern), format(' ON public.%I ', name));
        END LOOP;
    END
    $$
"""
# What nothing is ever looked for by. To sort thirty thousand JSON documents is most of what ANALYZE
# costs there, and it runs whenever a tenth of a week's events is new.
_NOT_LOOKED_FOR = ("data", "actor", "request_id", "traceparent", "causation_id", "schema_version")
_QUIET = """
    DO $$
    DECLARE
        part regclass;
    BEGIN
        FOR part IN SELECT relid FROM pg_partition_tree('core_outbox_event') LOOP
            EXECUTE format('ALTER TABLE ONLY %s {changes}', part);
        END LOOP;
    END
    $$
"""


def _changes(target: str) -> str:
    return ", ".join(f"ALTER {name} SET STATISTICS {target}" for name in _NOT_LOOKED_FOR)


class Migration(migrations.Migration):
    """A week's part is planned as those before it; and ANALYZE of events looks at less."""

    dependencies = [("core", "0012_work_takes_turns")]
    operations = [
        migrations.RunSQL(_LIKE, migrations.RunSQL.noop),
        migrations.RunSQL(
            _QUIET.format(changes=_changes("0")), _QUIET.format(changes=_changes("-1"))
        ),
    ]
