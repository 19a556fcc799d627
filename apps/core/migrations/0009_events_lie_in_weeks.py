from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from django.db import migrations, transaction

EVENT, BATCH = "core_outbox_event", "core_outbox_batch"
WEEKS_AHEAD = 4
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_OPEN = "WHERE state IN ('pending', 'leased')"
_SET_ASIDE = "WHERE state IN ('quarantined', 'failed', 'paused')"
# By the names that models give them. Each part gets its own, and a position's is each part's alone:
# a unique index of the whole would have to carry the id.
INDEXES = {
    EVENT: {
        "event_of_batch": "(organization_id, batch_id, ordinal)",
        "event_of_aggregate": "(organization_id, aggregate_type, aggregate_id, sequence)"
        " WHERE NOT aggregate_type = 'journal_entry'",
    },
    BATCH: {
        "outbox_batch_due": f"(next_attempt_at) {_OPEN}",
        "outbox_batch_set_aside": f"(state, next_attempt_at) {_SET_ASIDE}",
        "outbox_batch_unnumbered": "(organization_id, inserted_at, id)"
        " WHERE position IS NULL AND public",
    },
}
POSITION = "feed_position_is_given_once"
GUARD = "pgtrigger_events_are_append_only_e57b3"
_GUARDED = (
    "CREATE TRIGGER {guard} BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}"
    " FOR EACH STATEMENT EXECUTE FUNCTION {guard}()"
)
STORED = (
    "fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 500,"
    " autovacuum_vacuum_cost_delay = 0"
)


def _edge():
    """Return the first id of the week after next: what is there by then is one part."""
    today = datetime.now(UTC).date()
    monday = datetime.combine(today - timedelta(days=today.weekday()), time(), UTC)
    edge = monday + timedelta(days=14)
    return UUID(int=((edge - _EPOCH) // timedelta(milliseconds=1)) << 80)


def divide(apps, schema_editor):
    # What takes long goes first, and nobody waits for it: the index that becomes the key, and the
    # look at every row that tells Postgres that it need not look again.
    edge = _edge()
    # Roles bound what a request may take; this takes as long as the tables are large.
    schema_editor.execute("SET statement_timeout = 0")
    for table in (EVENT, BATCH):
        for sql in (
            f"DROP INDEX CONCURRENTLY IF EXISTS {table}_before_key",
            f"CREATE UNIQUE INDEX CONCURRENTLY {table}_before_key ON {table} (organization_id, id)",
            f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_before",
            f"ALTER TABLE {table} ADD CONSTRAINT {table}_before CHECK (id < '{edge}') NOT VALID",
            f"ALTER TABLE {table} VALIDATE CONSTRAINT {table}_before",
        ):
            schema_editor.execute(sql)
    schema_editor.execute("RESET statement_timeout")
    with transaction.atomic(using=schema_editor.connection.alias):
        _lock(schema_editor.execute)
        for table in (EVENT, BATCH):
            _divide(schema_editor.execute, table, edge)
            schema_editor.execute(
                f"SELECT kassa_keep_weeks('{table}', now() + interval '{WEEKS_AHEAD + 1} weeks')"
            )


def _lock(execute):
    # In the order in which a transaction writes them, or the two would wait for each other. Whoever
    # writes queues up behind this, so it gives up before they do.
    execute("SET LOCAL lock_timeout = '2s'")
    execute(f"LOCK TABLE {BATCH}, {EVENT} IN ACCESS EXCLUSIVE MODE")


def _divide(execute, table, edge):
    before, rest = f"{table}_before", f"{table}_default"
    execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
    execute(f"ALTER TABLE {table} ADD CONSTRAINT {before}_key PRIMARY KEY USING INDEX {before}_key")
    for name in INDEXES[table]:
        execute(f"ALTER INDEX {name} RENAME TO {name}_before")
    execute(f"ALTER TABLE {table} RENAME TO {before}")
    execute(
        f"CREATE TABLE {table} (LIKE {before} INCLUDING DEFAULTS INCLUDING CONSTRAINTS"
        " INCLUDING COMMENTS INCLUDING STORAGE) PARTITION BY RANGE (id)"
    )
    execute(f"ALTER TABLE {table} DROP CONSTRAINT {before}")
    execute(f"ALTER TABLE {table} ADD PRIMARY KEY (organization_id, id)")
    for name, columns in INDEXES[table].items():
        execute(f"CREATE INDEX {name} ON {table} {columns}")
    execute(
        f"ALTER TABLE {table} ATTACH PARTITION {before} FOR VALUES FROM (MINVALUE) TO ('{edge}')"
    )
    execute(f"ALTER TABLE {before} DROP CONSTRAINT {before}")
    execute(f"CREATE TABLE {rest} PARTITION OF {table} DEFAULT")
    if table == BATCH:
        execute(f"ALTER TABLE {before} RENAME CONSTRAINT {POSITION} TO {POSITION}_before")
        execute(
            f"ALTER TABLE {rest} ADD CONSTRAINT {POSITION} UNIQUE (organization_id, position)"
        )
        execute(f"ALTER TABLE {rest} SET ({STORED})")
    else:
        for guarded in (table, rest):
            execute(_GUARDED.format(guard=GUARD, table=guarded))


def unite(apps, schema_editor):
    with transaction.atomic(using=schema_editor.connection.alias):
        _lock(schema_editor.execute)
        for table in (EVENT, BATCH):
            _unite(schema_editor.execute, table)


def _unite(execute, table):
    whole = f"{table}_whole"
    execute(
        f"CREATE TABLE {whole} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS"
        " INCLUDING COMMENTS INCLUDING STORAGE)"
    )
    execute(f"INSERT INTO {whole} SELECT * FROM {table}")
    execute(f"DROP TABLE {table}")
    execute(f"ALTER TABLE {whole} RENAME TO {table}")
    execute(f"ALTER TABLE {table} ADD CONSTRAINT {table}_pkey PRIMARY KEY (id)")
    for name, columns in INDEXES[table].items():
        execute(f"CREATE INDEX {name} ON {table} {columns}")
    if table == BATCH:
        execute(f"ALTER TABLE {table} ADD CONSTRAINT {POSITION} UNIQUE (organization_id, position)")
        execute(f"ALTER TABLE {table} SET ({STORED})")
    else:
        execute(_GUARDED.format(guard=GUARD, table=table))


class Migration(migrations.Migration):
    """
    Events and their batches in a part per week, under (organization_id, id).

    What is there becomes the oldest part where it lies; no row is written again. If it is stopped
    before its last transaction it can be run again.
    """

    atomic = False

    dependencies = [("core", "0008_weeks_of_events")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunPython(divide, unite)],
            state_operations=[
                migrations.RemoveConstraint(model_name="outboxbatch", name=POSITION)
            ],
        )
    ]
