"""To the tick, where a month begins in an organisation's own zone: also where clocks change."""

from datetime import UTC, date, datetime, timedelta

import pytest

from apps.accounts.models import Organization
from apps.core.invariants import breaches
from apps.ledger import queries
from apps.ledger.errors import PeriodClosed
from tests.ledger.factories import (
    NOW,
    balance,
    close_month,
    create_organization,
    fund,
    open_account,
    post_transfer,
)
from tests.ledger.histories import movements_of

pytestmark = pytest.mark.django_db(transaction=True)

TICK = timedelta(microseconds=1)

# Zone, month, and its first instant.
BEGINNINGS = [
    ("UTC", date(2024, 3, 1), datetime(2024, 3, 1, tzinfo=UTC)),
    ("Asia/Kathmandu", date(2026, 7, 1), datetime(2026, 6, 30, 18, 15, tzinfo=UTC)),
    ("Pacific/Kiritimati", date(2026, 7, 1), datetime(2026, 6, 30, 10, tzinfo=UTC)),
    ("Pacific/Pago_Pago", date(2026, 7, 1), datetime(2026, 7, 1, 11, tzinfo=UTC)),
    # The last day of March has 23 hours.
    ("Europe/Berlin", date(2024, 4, 1), datetime(2024, 3, 31, 22, tzinfo=UTC)),
    # At midnight clocks go from 0 to 1: the month begins at one.
    ("America/Asuncion", date(2023, 10, 1), datetime(2023, 10, 1, 4, tzinfo=UTC)),
    # An hour after midnight they go back to it: the month begins at the first of the two.
    ("America/Havana", date(2026, 11, 1), datetime(2026, 11, 1, 4, tzinfo=UTC)),
    # The last evening of October has an hour twice.
    ("Africa/Cairo", date(2024, 11, 1), datetime(2024, 10, 31, 22, tzinfo=UTC)),
    # December had no 30th.
    ("Pacific/Apia", date(2012, 1, 1), datetime(2011, 12, 31, 10, tzinfo=UTC)),
]


def create_organization_in(zone: str):
    organization = create_organization()
    Organization.objects.filter(id=organization).update(time_zone=zone)
    return organization


@pytest.mark.parametrize(("zone", "month", "begins"), BEGINNINGS)
class TestAMonth:
    def test_begins_where_the_one_before_it_ends(self, zone, month, begins):
        organization = create_organization_in(zone)
        before = (month - timedelta(days=1)).replace(day=1)

        starts_at, ends_at = queries.period_bounds(organization_id=organization, month=month)
        _, last = queries.period_bounds(organization_id=organization, month=before)

        assert (starts_at, last) == (begins, begins)
        assert timedelta(days=27) < ends_at - starts_at < timedelta(days=32)
        assert [
            queries.month_of(organization_id=organization, at=at)
            for at in (begins - TICK, begins, begins + timedelta(hours=2), ends_at - TICK)
        ] == [before, month, month, month]

    def test_takes_entries_from_its_first_instant_once_the_one_before_it_is_closed(
        self, zone, month, begins
    ):
        organization = create_organization_in(zone)
        ann = open_account(organization, "wallets:ann:EUR")
        bob = open_account(organization, "wallets:bob:EUR")
        fund(organization, ann, 100, at=begins - timedelta(days=9))
        post_transfer(organization, ann, bob, 1, key="open", effective_at=begins - TICK)
        before = (month - timedelta(days=1)).replace(day=1)

        close_month(organization, before, now=NOW)

        with pytest.raises(PeriodClosed) as refused:
            post_transfer(organization, ann, bob, 2, key="late", effective_at=begins - TICK)
        assert refused.value.details == {"period": f"{before:%Y-%m}"}
        post_transfer(organization, ann, bob, 4, key="next", effective_at=begins)
        assert balance(organization, bob).posted == 1 + 4
        # What was stored has the last tick in it and nothing of the month behind.
        view = queries.view_period(organization_id=organization, month=before)
        assert view.is_stored
        stored = {line.account_id: line for line in movements_of(view)}
        assert (stored[bob].debits, stored[bob].credits) == (0, 1)
        assert breaches() == []
