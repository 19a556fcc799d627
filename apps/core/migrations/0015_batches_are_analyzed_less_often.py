from django.db import migrations

# A later week's part is made like those before.
_EACH = """
    DO $$
    DECLARE
        part regclass;
    BEGIN
        FOR part IN SELECT relid FROM pg_partition_tree('core_outbox_batch') WHERE isleaf
        LOOP
            EXECUTE format('ALTER TABLE %s {change}', part);
        END LOOP;
    END
    $$
"""


class Migration(migrations.Migration):
    """
    ANALYZE as often as for events: when half as many batches are new, not a fortieth.

    A batch is written, leased, numbered and done with: four changes of its one row.
    """

    dependencies = [("core", "0014_what_grows_is_analyzed_less_often")]
    operations = [
        migrations.RunSQL(
            _EACH.format(change="SET (autovacuum_analyze_scale_factor = 2)"),
            _EACH.format(change="RESET (autovacuum_analyze_scale_factor)"),
        )
    ]
