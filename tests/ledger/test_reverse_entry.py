"""Undoing an entry: once, for ever."""

from datetime import timedelta
from functools import partial

import pytest

from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.core.models import AuditEvent
from apps.ledger import operations, queries
from apps.ledger.errors import (
    AlreadyReversed,
    InsufficientFunds,
    JournalEntryNotFound,
    ReferenceReused,
)
from apps.ledger.models import JournalEntry
from apps.ledger.rules import Leg, PostEntry
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    committed,
    create_organization,
    fund,
    open_account,
    post,
    post_transfer,
)
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


@committed
def reverse(organization, entry, reference=None, at="now"):
    return operations.reverse_entry(
        organization_id=organization, entry_id=entry, reason="sent in error", actor=ACTOR, now=NOW,
        reference=reference, at=at,
    )  # fmt: skip


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "customers:cus_ann:available:EUR")
    bob = open_account(organization, "customers:cus_bob:available:EUR")
    fund(organization, ann, 100_00)
    entry = post_transfer(organization, ann, bob, 40_00, key="k").entry_id
    return organization, ann, bob, entry


class TestReverseEntry:
    def test_puts_the_money_back_by_a_new_entry(self, books):
        organization, ann, bob, entry = books

        reversal = reverse(organization, entry)

        assert balance(organization, ann).available == 100_00
        assert balance(organization, bob).available == 0
        view = queries.get_entry(organization_id=organization, entry_id=entry)
        assert view.reversed_by == reversal
        assert AuditEvent.objects.get(act="ledger.reverse_entry").reason == "sent in error"
        assert breaches() == []

    def test_of_spent_money_is_refused_and_moves_nothing(self, books):
        organization, ann, bob, entry = books
        post_transfer(organization, bob, ann, 1, key="spent")
        before = JournalEntry.objects.count()

        with pytest.raises(InsufficientFunds):
            reverse(organization, entry)

        assert JournalEntry.objects.count() == before

    def test_twice_is_refused_and_under_its_reference_answered(self, books):
        organization, *_, entry = books
        first = reverse(organization, entry, reference="payout:1:reject")

        assert reverse(organization, entry, reference="payout:1:reject") == first
        with pytest.raises(AlreadyReversed):
            reverse(organization, entry)

    @pytest.mark.parametrize("other", ["of-nothing", "of-another-entry"])
    def test_that_was_reversed_under_another_reference_is_refused(self, books, other):
        organization, ann, bob, entry = books
        post_transfer(organization, ann, bob, 1, key="other", reference="of-another-entry")
        reverse(organization, entry, reference="payout:1:reject")

        with pytest.raises(AlreadyReversed):
            reverse(organization, entry, reference=other)

        assert balance(organization, bob).available == 1

    def test_under_the_reference_of_an_equal_entry_is_refused(self, books):
        organization, ann, bob, entry = books
        post_transfer(organization, bob, ann, 40_00, key="back", reference="r-1")

        with pytest.raises(ReferenceReused):
            reverse(organization, entry, reference="r-1")

        assert not AuditEvent.objects.filter(act="ledger.reverse_entry").exists()

    def test_under_the_reference_of_an_entry_with_its_very_legs_is_refused(self, books):
        organization, ann, bob, entry = books
        legs = (Leg(ann, -40_00), Leg(bob, 40_00))
        other = PostEntry(id=new_id(), legs=legs, currency="EUR", kind="gift", reference="r-1")
        post(organization, other)

        with pytest.raises(ReferenceReused) as refused:
            reverse(organization, entry, reference="r-1")

        assert refused.value.details == {"journal_entry": encode_id("je", other.id)}
        assert queries.get_entry(organization_id=organization, entry_id=entry).reversed_by is None
        assert not AuditEvent.objects.filter(act="ledger.reverse_entry").exists()

    @pytest.mark.parametrize(("at", "effective_at"), [("now", NOW), ("original", NOW - DAY)])
    def test_has_the_business_time_that_was_asked_for(self, books, at, effective_at):
        organization, ann, bob, _ = books
        fund(organization, ann, 5_00, at=NOW - DAY)
        moved = post_transfer(organization, ann, bob, 5_00, key="late", effective_at=NOW - DAY)

        reversal = reverse(organization, moved.entry_id, at=at)

        view = queries.get_entry(organization_id=organization, entry_id=reversal)
        assert view.effective_at == effective_at

    def test_of_another_organizations_entry_is_not_found(self, books):
        *_, entry = books

        with pytest.raises(JournalEntryNotFound):
            reverse(create_organization("Other"), entry)

    @pytest.mark.parametrize("turn", range(5))
    def test_ten_at_once_have_one_winner(self, books, turn):
        organization, ann, _, entry = books

        outcomes = race(*[partial(reverse, organization, entry)] * 10)

        assert sorted({type(outcome).__name__ for outcome in outcomes}) == [
            "AlreadyReversed", "UUID",
        ]  # fmt: skip
        assert sum(type(outcome).__name__ == "UUID" for outcome in outcomes) == 1
        assert balance(organization, ann).available == 100_00
