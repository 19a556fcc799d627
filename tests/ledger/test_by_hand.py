"""Corrections by hand, as the ledger itself has them: it trusts nobody who agreed before."""

from functools import partial

import pytest

from apps.core.errors import Refusal
from apps.core.invariants import breaches
from apps.core.models import AuditEvent
from apps.ledger import errors, operations, queries
from apps.ledger.models import JournalEntry
from apps.ledger.operations import EntryRequest
from apps.ledger.rules import Leg
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    committed,
    create_organization,
    fund,
    open_account,
    post_transfer,
)
from tests.ledger.rows import fingerprints
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

TABLES = ("ledger_", "core_outbox", "core_audit")


class Books:
    """Ann was paid 100.00 by the bank and gave Bob 30.00; there are fees of Kassa's own."""

    def __init__(self) -> None:
        self.id = create_organization()
        self.ann = open_account(self.id, "wallets:ann:EUR")
        self.bob = open_account(self.id, "wallets:bob:EUR")
        self.fees = open_account(self.id, "fees:f:EUR", type_="income", floor=None, internal=True)
        fund(self.id, self.ann, 100_00)
        self.paid_in = JournalEntry.objects.get(organization_id=self.id).id
        self.gift = post_transfer(self.id, self.ann, self.bob, 30_00, key="gift").entry_id
        codes = ["bank:ba_1:EUR"]
        [self.bank] = queries.account_ids(organization_id=self.id, codes=codes).values()

    @committed
    def reverse(self, entry_id, *, by=("staff:mara", "staff:anton")):
        return operations.reverse_by_hand(
            organization_id=self.id, entry_id=entry_id, at="now", requested_by=by[0],
            approved_by=by[1], reason="Sent to the wrong Bob", actor=ACTOR, now=NOW,
        )  # fmt: skip

    @committed
    def adjust(self, *legs, by=("staff:mara", "staff:anton"), reference=None):
        return operations.adjust(
            organization_id=self.id, entry=asked(legs, reference), requested_by=by[0],
            approved_by=by[1], reason="Goodwill", actor=ACTOR, now=NOW,
        )  # fmt: skip

    def goodwill(self, **more):
        return self.adjust(Leg(self.fees, 5_00, "EUR"), Leg(self.ann, -5_00, "EUR"), **more)


def asked(legs, reference=None) -> EntryRequest:
    return EntryRequest(legs=legs, description="Goodwill", reference=reference)


@pytest.fixture
def books() -> Books:
    return Books()


class TestReverseByHand:
    def test_takes_an_entry_back(self, books):
        reversal = books.reverse(books.gift)

        made = queries.get_entry(organization_id=books.id, entry_id=reversal)
        assert (made.kind, made.reverses) == ("reversal", books.gift)
        assert balance(books.id, books.ann).posted == 100_00
        assert balance(books.id, books.bob).posted == 0
        assert breaches() == []

    @pytest.mark.parametrize(
        ("entry", "by", "refusal"),
        [
            ("gift", ("staff:mara", "staff:mara"), errors.TwoPeopleNeeded),
            # What stands at the bank is a fact: no two people move it.
            ("paid_in", ("staff:mara", "staff:anton"), errors.LedgerAccountReserved),
        ],
    )
    def test_refused_moves_nothing(self, books, entry, by, refusal):
        before = fingerprints(*TABLES, locks=False)

        with pytest.raises(refusal):
            books.reverse(getattr(books, entry), by=by)

        assert fingerprints(*TABLES, locks=False) == before

    def test_again_is_refused_and_moves_nothing(self, books):
        books.reverse(books.gift)
        before = fingerprints(*TABLES, locks=False)

        with pytest.raises(errors.AlreadyReversed):
            books.reverse(books.gift)

        assert fingerprints(*TABLES, locks=False) == before

    def test_at_once_has_one_winner(self, books):
        outcomes = race(*[partial(books.reverse, books.gift)] * 6)

        refused = [one for one in outcomes if isinstance(one, Refusal)]
        assert {type(one) for one in refused} == {errors.AlreadyReversed}
        assert len(refused) == 5
        assert balance(books.id, books.ann).posted == 100_00
        assert AuditEvent.objects.filter(act="ledger.reverse_entry").count() == 1
        assert breaches() == []


class TestAdjust:
    def test_posts_what_two_people_want(self, books):
        entry = books.goodwill(reference="goodwill-1")

        made = queries.get_entry(organization_id=books.id, entry_id=entry)
        assert (made.kind, made.reference) == ("adjustment", "goodwill-1")
        assert balance(books.id, books.ann).posted == 75_00
        assert AuditEvent.objects.get(act="ledger.adjust").reason == "Goodwill"
        assert breaches() == []

    @pytest.mark.parametrize(
        ("debit", "amounts", "by", "refusal"),
        [
            ("fees", (5, -5), ("staff:mara", "staff:mara"), errors.TwoPeopleNeeded),
            ("bank", (5, -5), ("staff:mara", "staff:anton"), errors.LedgerAccountReserved),
            ("fees", (5, -4), ("staff:mara", "staff:anton"), errors.EntryNotBalanced),
            ("bob", (30_01, -30_01), ("staff:mara", "staff:anton"), errors.InsufficientFunds),
        ],
    )
    def test_refused_moves_nothing(self, books, debit, amounts, by, refusal):
        legs = (Leg(getattr(books, debit), amounts[0], "EUR"), Leg(books.ann, amounts[1], "EUR"))
        before = fingerprints(*TABLES, locks=False)

        with pytest.raises(refusal):
            books.adjust(*legs, by=by)
        if refusal is not errors.TwoPeopleNeeded:
            with pytest.raises(refusal):
                operations.preview_adjustment(organization_id=books.id, entry=asked(legs), now=NOW)

        assert fingerprints(*TABLES, locks=False) == before

    def test_under_a_reference_that_stands_is_refused_and_the_dry_run_says_so(self, books):
        made = books.goodwill(reference="goodwill-1")
        legs = tuple(
            Leg(posting.account_id, posting.amount_minor, "EUR")
            for posting in queries.get_entry(organization_id=books.id, entry_id=made).postings
        )
        before = fingerprints(*TABLES, locks=False)

        with pytest.raises(errors.ReferenceReused) as refused:
            books.goodwill(reference="goodwill-1")
        with pytest.raises(errors.ReferenceReused) as dry:
            operations.preview_adjustment(
                organization_id=books.id, entry=asked(legs, "goodwill-1"), now=NOW
            )

        assert dry.value.details == refused.value.details
        assert fingerprints(*TABLES, locks=False) == before

    def test_under_one_reference_at_once_is_posted_once(self, books):
        """Two people agreed that something moves: it is not enough that it has moved."""
        outcomes = race(*[partial(books.goodwill, reference="goodwill-1")] * 6)

        refused = [one for one in outcomes if isinstance(one, Refusal)]
        assert {type(one) for one in refused} == {errors.ReferenceReused}
        assert len(refused) == 5
        assert balance(books.id, books.ann).posted == 75_00
        assert AuditEvent.objects.filter(act="ledger.adjust").count() == 1
        assert breaches() == []
