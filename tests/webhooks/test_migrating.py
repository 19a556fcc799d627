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
    ("before", "name"),
    [
        ("0009_work_takes_turns", "0010_lanes_change_at_rest"),
        ("0012_ignored_events_are_found", "0013_endpoints_change_in_portions"),
    ],
)
def test_endpoints_change_only_while_nobody_has_them(before, name):
    loader = MigrationLoader(connection)
    state = loader.project_state(("webhooks", before))
    migration = loader.get_migration("webhooks", name)

    with psycopg.connect(**connection.get_connection_params()) as reading:
        reading.execute("SELECT count(*) FROM webhooks_webhookendpoint")
        with (
            pytest.raises(OperationalError, match="lock timeout"),
            connection.schema_editor(atomic=True) as editor,
        ):
            migration.apply(state, editor)
