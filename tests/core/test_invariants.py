"""Invariants return no row while all is well, and name what is not."""

import pytest
from django.core.management import call_command
from django.db import connection

from apps.core import invariants
from apps.core.ids import new_id
from apps.core.models import OutboxBatch
from tests.core.events_of_tests import ORGANIZATION, opened, publish, relay_and_consume

pytestmark = pytest.mark.django_db(transaction=True)


def broken() -> list[str]:
    core = invariants.collect(only_apps=frozenset({"core"}))
    return [name for name, breach in invariants.check(core) if breach is not None]


class TestCollect:
    def test_has_every_apps_own_under_names_of_their_own(self):
        by_app = [
            invariants.collect(only_apps=frozenset({label}))
            for label in ("core", "ledger", "webhooks", "payouts")
        ]

        assert sum(map(len, by_app)) == len(set().union(*by_app))
        assert set().union(*by_app) <= set(invariants.collect())


class TestCheck:
    def test_finds_nothing_where_all_is_well(self):
        publish(opened("a"), opened("b"))
        relay_and_consume()

        assert invariants.breaches() == []

    def test_finds_a_hole_in_an_aggregates_sequence(self):
        publish(opened("a", sequence=1))
        publish(opened("a", sequence=3))

        assert broken() == ["events_of_an_aggregate_have_no_hole"]

    def test_finds_a_hole_in_the_feed(self):
        publish(opened("a"))
        publish(opened("b"))
        relay_and_consume()
        OutboxBatch.objects.filter(position=1).update(position=None, public=False)

        assert broken() == ["feed_positions_have_no_hole"]

    def test_finds_a_batch_that_waits_for_a_minute(self):
        publish(opened("a"))
        with connection.cursor() as cursor:
            cursor.execute("UPDATE core_outbox_batch SET inserted_at = now() - interval '61 s'")

        assert broken() == ["batch_is_relayed_within_a_minute"]

    def test_finds_a_batch_without_its_events(self):
        OutboxBatch.objects.create(
            id=new_id(), organization_id=ORGANIZATION, public=False, event_count=1, state="done"
        )

        assert broken() == ["batch_has_its_events"]

    def test_shows_the_first_rows(self):
        publish(opened("a", sequence=2))

        [(_, breach)] = [
            found for found in invariants.check(invariants.INVARIANTS) if found[1] is not None
        ]

        assert breach.rows == (
            {
                "organization_id": ORGANIZATION,
                "aggregate_type": "ledger_account",
                "aggregate_id": "la_a",
                "sequence": 2,
            },
        )


class TestCommand:
    def test_ends_well_where_all_is_well(self, capsys):
        call_command("check_invariants", app=["core"])

        assert "0 broken" in capsys.readouterr().out

    def test_names_what_is_broken_and_exits_with_1(self, capsys):
        publish(opened("a", sequence=2))

        with pytest.raises(SystemExit) as ended:
            call_command("check_invariants", app=["core"])

        assert ended.value.code == 1
        told = capsys.readouterr().out
        assert "events_of_an_aggregate_have_no_hole" in told
        assert "aggregate_id=la_a" in told
