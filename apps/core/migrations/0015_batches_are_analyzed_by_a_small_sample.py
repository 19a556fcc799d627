from django.db import migrations

# Of the whole and of each part; a later week's is made like those before.
_EACH = """
    DO $$
    DECLARE
        part regclass;
        changes text;
    BEGIN
        SELECT string_agg(format('ALTER %I SET STATISTICS {target}', attname), ', ') INTO changes
          FROM pg_attribute
         WHERE attrelid = 'core_outbox_batch'::regclass AND attnum > 0 AND NOT attisdropped;
        FOR part IN SELECT relid FROM pg_partition_tree('core_outbox_batch') LOOP
            EXECUTE format('ALTER TABLE ONLY %s %s', part, changes);
        END LOOP;
    END
    $$
"""


class Migration(migrations.Migration):
    """
    Analyze batches by 6,000 of them, not by 30,000: two cores feel each run (ADR 0183).

    Each changes a few times within a second, so a tenth of a week's has soon.
    """

    dependencies = [("core", "0014_what_grows_is_analyzed_less_often")]
    operations = [
        migrations.RunSQL(_EACH.format(target="20"), _EACH.format(target="-1")),
    ]
