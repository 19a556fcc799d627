"""The books, their chain and what verifies them, when weeks of their events are gone."""

import pytest
from django.core.management import call_command

from apps.core import clock, invariants, partitions
from apps.core.ids import encode_id
from apps.core.models import OutboxEvent
from apps.core.partitions import EventsStillNeeded
from apps.ledger.models import ChainHead, JournalEntry
from apps.ledger.tasks import seal_due
from tests.core.events_of_tests import relay_and_consume
from tests.core.weeks_of_tests import WEEK, at, ensure_weeks_from, monday
from tests.ledger.factories import create_organization, fund, move, open_account, post
from tests.support import past_the_guards

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def now():
    return clock.now()


@pytest.fixture(autouse=True)
def weeks(weeks_restored, transactional_db, now):
    ensure_weeks_from(monday(now) - 20 * WEEK)


@pytest.fixture
def moved(now):
    """Entries of long ago and of today, by the clock that ids are made from."""
    organization = create_organization()
    for instant in (now - 19 * WEEK, now):
        at(instant, lambda: move_money(organization))
    relay_and_consume()
    return organization


def move_money(organization):
    wallets = [open_account(organization, f"wallets:w_{number}:EUR") for number in (1, 2)]
    fund(organization, wallets[0], 100)
    post(organization, move(*wallets, 40))


def told(organization):
    """How many entries an event tells of."""
    return OutboxEvent.objects.filter(
        organization_id=organization, name="ledger.journal_entry.posted"
    ).count()


class TestDroppedWeeks:
    def test_wait_until_their_entries_are_sealed(self, moved, now):
        with pytest.raises(EventsStillNeeded, match=r"ledger\.seal"):
            partitions.drop_weeks("", now)
        assert told(moved) == JournalEntry.objects.count() == 4

        list(seal_due("", now))
        partitions.drop_weeks("", now)

        assert told(moved) == 2
        assert JournalEntry.objects.count() == 4

    def test_leave_books_that_verify_and_a_chain_that_goes_on(self, moved, now, capsys):
        list(seal_due("", now))
        partitions.drop_weeks("", now)

        at(now, lambda: move_money(moved))
        relay_and_consume()
        list(seal_due("", now))

        assert ChainHead.objects.get(organization_id=moved).position == 6
        call_command("verify_ledger")
        assert invariants.breaches() == []

    def test_do_not_hide_an_entry_that_an_event_still_tells_of(self, moved, now, capsys):
        list(seal_due("", now))
        partitions.drop_weeks("", now)
        entry = JournalEntry.objects.order_by("-id")[:1].get()

        past_the_guards(f"DELETE FROM ledger_journal_entry WHERE id = '{entry.id}'")

        with pytest.raises(SystemExit):
            call_command("verify_ledger")
        assert encode_id("je", entry.id) in capsys.readouterr().out
