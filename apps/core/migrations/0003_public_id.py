from django.db import migrations


class Migration(migrations.Migration):
    """The printed form of an id in SQL, as `apps.core.ids.encode_id` prints it: for invariants."""

    dependencies = [("core", "0002_work_rows_stay_hot")]
    operations = [
        migrations.RunSQL(
            """
            CREATE FUNCTION kassa_public_id(prefix text, id uuid) RETURNS text
            LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = public, pg_temp AS $$
                SELECT prefix || '_' || string_agg(
                           substr('0123456789abcdefghjkmnpqrstvwxyz',
                                  substring(bits from place * 5 + 1 for 5)::bit(5)::int + 1, 1),
                           '' ORDER BY place)
                  FROM (SELECT B'00' || ('x' || replace(id::text, '-', ''))::bit(128) AS bits) AS b,
                       generate_series(0, 25) AS place
            $$
            """,
            "DROP FUNCTION kassa_public_id(text, uuid)",
        )
    ]
