"""Migrations of tables that are in use: one that does not get its table in time gives up."""

import psycopg
import pytest
from django.db import OperationalError, connection
from django.db.migrations.loader import MigrationLoader

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def _only_long_limits():
    """The limits of a role that would let others queue up."""
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 0")
        cursor.execute("SET statement_timeout = '15s'")
        yield
        cursor.execute("RESET lock_timeout")
        cursor.execute("RESET statement_timeout")


@pytest.mark.usefixtures("_only_long_limits")
@pytest.mark.parametrize(
    ("table", "app", "before", "name"),
    [
        (
            *("webhooks_webhookendpoint", "webhooks"),
            *("0009_work_takes_turns", "0010_lanes_change_at_rest"),
        ),
        (
            *("webhooks_webhookendpoint", "webhooks"),
            *("0012_ignored_events_are_found", "0013_endpoints_change_in_portions"),
        ),
        (
            *("banking_statement", "banking"),
            *("0007_parked_lines_are_found_by_turn", "0008_lone_pages_find_their_account"),
        ),
    ],
)
def test_tables_change_only_while_nobody_has_them(table, app, before, name):
    loader = MigrationLoader(connection)
    state = loader.project_state((app, before))
    migration = loader.get_migration(app, name)

    with psycopg.connect(**connection.get_connection_params()) as reading:
        reading.execute(f"SELECT count(*) FROM {table}")
        with (
            pytest.raises(OperationalError, match="lock timeout"),
            connection.schema_editor(atomic=True) as editor,
        ):
            migration.apply(state, editor)
