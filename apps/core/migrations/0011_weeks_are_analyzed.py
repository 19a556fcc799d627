from django.db import migrations

# Autovacuum analyzes the parts alone. From 18 on the whole can be asked for without them.
_ANALYZE = """
    CREATE FUNCTION kassa_analyze_weeks(parent text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp SET lock_timeout = '1s' AS $$
    BEGIN
        IF current_setting('server_version_num')::int >= 180000 THEN
            EXECUTE format('ANALYZE ONLY %I', parent);
        ELSE
            EXECUTE format('ANALYZE %I', parent);
        END IF;
    END
    $$
"""
# As with the other two, the application's role is given it; see ADR 0107 and 0112.
_PRIVATE = "REVOKE ALL ON FUNCTION kassa_analyze_weeks(text) FROM PUBLIC"


class Migration(migrations.Migration):
    """How the planner is told of events and batches as a whole."""

    dependencies = [("core", "0010_jobs_go_on_where_they_stopped")]
    operations = [
        migrations.RunSQL(_ANALYZE, "DROP FUNCTION kassa_analyze_weeks(text)"),
        migrations.RunSQL(_PRIVATE, migrations.RunSQL.noop),
    ]
