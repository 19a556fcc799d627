from django.db import migrations, models

from apps.core.changes import together

# What is above every id made before an instant and below every one made from it on.
_FIRST_ID = """
    CREATE FUNCTION kassa_first_id(at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = public, pg_temp AS $$
        SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0')
                || repeat('0', 20))::uuid
    $$
"""
_MADE_AT = """
    CREATE FUNCTION kassa_made_at(id uuid) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = public, pg_temp AS $$
        SELECT to_timestamp(
            ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
    $$
"""
# Below which id a partition's rows are. NULL for the default.
_BEYOND = """
    CREATE FUNCTION kassa_partition_beyond(partition regclass) RETURNS uuid
    LANGUAGE sql STABLE STRICT SET search_path = public, pg_temp AS $$
        SELECT substring(pg_get_expr(relpartbound, oid) FROM 'TO \\(''([0-9a-f-]{36})''\\)')::uuid
          FROM pg_class WHERE oid = partition
    $$
"""
# Columns, checks and indexes come with LIKE. How it is stored and its guards do not: a statement
# trigger of the whole does not look at SQL that names a part.
_LIKE = """
    CREATE FUNCTION kassa_make_like(name text, pattern text) RETURNS void
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
        FOR line IN
            SELECT pg_get_triggerdef(oid) FROM pg_trigger
             WHERE tgrelid = pattern::regclass AND NOT tgisinternal AND tgparentid = 0
        LOOP
            EXECUTE replace(line, format(' ON public.%I ', pattern), format(' ON public.%I ', name));
        END LOOP;
    END
    $$
"""
_KEEP = """
    CREATE FUNCTION kassa_keep_weeks(parent text, until timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp SET lock_timeout = '1s' AS $$
    DECLARE
        rest text := parent || '_default';
        edge timestamptz;
        beyond timestamptz;
        last uuid;
        name text;
    BEGIN
        -- Two at once wait for each other here; whoever writes or reads does not.
        EXECUTE format('LOCK TABLE ONLY %I IN SHARE UPDATE EXCLUSIVE MODE', parent);
        SELECT kassa_made_at(kassa_partition_beyond(inhrelid)) INTO edge
          FROM pg_inherits
         WHERE inhparent = parent::regclass AND kassa_partition_beyond(inhrelid) IS NOT NULL
         ORDER BY kassa_partition_beyond(inhrelid) DESC LIMIT 1;
        EXECUTE format('SELECT id FROM %I WHERE id < kassa_first_id($1) LIMIT 1', rest)
           INTO last USING until;
        IF last IS NOT NULL THEN
            -- Nobody made weeks for a while. What the default holds becomes a part where it lies.
            EXECUTE format('SELECT id FROM %I ORDER BY id DESC LIMIT 1', rest) INTO last;
            beyond := date_trunc('week', kassa_made_at(last), 'UTC') + interval '168 hours';
            name := parent || to_char(edge AT TIME ZONE 'UTC', '"_"IYYY"w"IW');
            EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, rest);
            EXECUTE format('ALTER TABLE %I RENAME TO %I', rest, name);
            PERFORM kassa_make_like(rest, name);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           parent, name, kassa_first_id(edge), kassa_first_id(beyond));
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I DEFAULT', parent, rest);
            edge := beyond;
        END IF;
        WHILE edge < until LOOP
            beyond := edge + interval '168 hours';
            name := parent || to_char(edge AT TIME ZONE 'UTC', '"_"IYYY"w"IW');
            PERFORM kassa_make_like(name, rest);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           parent, name, kassa_first_id(edge), kassa_first_id(beyond));
            edge := beyond;
        END LOOP;
    END
    $$
"""
# Whatever is asked for, a month stays.
_DROP = """
    CREATE FUNCTION kassa_drop_weeks(parent text, before timestamptz) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = public, pg_temp SET lock_timeout = '1s' AS $$
    DECLARE
        part regclass;
        edge uuid;
        dropped integer := 0;
    BEGIN
        IF before > now() - interval '30 days' THEN
            RAISE EXCEPTION '% is kept for 30 days', parent
                USING ERRCODE = 'restrict_violation', CONSTRAINT = 'events_are_kept_for_a_month';
        END IF;
        FOR part IN
            SELECT inhrelid FROM pg_inherits
             WHERE inhparent = parent::regclass
               AND kassa_partition_beyond(inhrelid) <= kassa_first_id(before)
             ORDER BY kassa_partition_beyond(inhrelid)
        LOOP
            edge := kassa_partition_beyond(part);
            EXECUTE format('ALTER TABLE %I DETACH PARTITION %s', parent, part);
            EXECUTE format('DROP TABLE %s', part);
            dropped := dropped + 1;
        END LOOP;
        IF dropped > 0 THEN
            -- What an old clock writes, or what is made up, still lies below everything else.
            PERFORM kassa_make_like(parent || '_before', parent || '_default');
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)',
                           parent, parent || '_before', edge);
        END IF;
        RETURN dropped;
    END
    $$
"""
# The application's role, which owns nothing, is given the two it calls; see ADR 0107.
_PRIVATE = (
    "REVOKE ALL ON FUNCTION kassa_make_like(text, text), kassa_keep_weeks(text, timestamptz),"
    " kassa_drop_weeks(text, timestamptz) FROM PUBLIC"
)


class Migration(migrations.Migration):
    """How weeks of events are made and dropped, and what a feed says of those that went."""

    dependencies = [("core", "0007_queue_heartbeat")]
    operations = together([
        migrations.RunSQL(_FIRST_ID, "DROP FUNCTION kassa_first_id(timestamptz)"),
        migrations.RunSQL(_MADE_AT, "DROP FUNCTION kassa_made_at(uuid)"),
        migrations.RunSQL(_BEYOND, "DROP FUNCTION kassa_partition_beyond(regclass)"),
        migrations.RunSQL(_LIKE, "DROP FUNCTION kassa_make_like(text, text)"),
        migrations.RunSQL(_KEEP, "DROP FUNCTION kassa_keep_weeks(text, timestamptz)"),
        migrations.RunSQL(_DROP, "DROP FUNCTION kassa_drop_weeks(text, timestamptz)"),
        migrations.RunSQL(_PRIVATE, migrations.RunSQL.noop),
        migrations.AddField(
            model_name="feedhead",
            name="dropped_position",
            field=models.BigIntegerField(
                default=0, db_default=0, db_comment="Batches up to here went with their weeks."
            ),
        ),
        migrations.AddField(
            model_name="feedhead",
            name="kept_since",
            field=models.DateTimeField(
                null=True,
                db_comment="The beginning of the oldest week that is kept; NULL: none went.",
            ),
        ),
    ])
