from django.db import migrations

# Of the idempotency keys and of each part of the events; a later week's is made like those before.
_EACH = """
    DO $$
    DECLARE
        part regclass;
    BEGIN
        FOR part IN SELECT relid FROM pg_partition_tree('core_outbox_event') WHERE isleaf
            UNION ALL SELECT 'core_idempotency_key'::regclass
        LOOP
            EXECUTE format('ALTER TABLE %s {change}', part);
        END LOOP;
    END
    $$
"""


class Migration(migrations.Migration):
    """ANALYZE when half as many rows are new, not a tenth: two cores feel each run (ADR 0179)."""

    dependencies = [("core", "0013_weeks_are_planned_alike")]
    operations = [
        migrations.RunSQL(
            _EACH.format(change="SET (autovacuum_analyze_scale_factor = 0.5)"),
            _EACH.format(change="RESET (autovacuum_analyze_scale_factor)"),
        )
    ]
