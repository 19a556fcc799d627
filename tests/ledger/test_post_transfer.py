"""One transfer of a client: happy, refused, replayed, raced, crashed."""

from functools import partial
from itertools import cycle

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import context
from apps.core.idempotency import IdempotencyKeyReused
from apps.core.ids import encode_id
from apps.core.invariants import breaches
from apps.core.models import AuditEvent, IdempotencyKey, OutboxEvent
from apps.ledger import operations, queries
from apps.ledger.errors import (
    InsufficientFunds,
    LedgerAccountFrozen,
    LedgerAccountReserved,
    LedgerAccountsNotFound,
    ReferenceReused,
)
from apps.ledger.models import JournalEntry, Posting
from apps.ledger.operations import AccountChange, TransferRequest
from apps.ledger.rules import AccountStatus
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
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "customers:cus_ann:available:EUR")
    bob = open_account(organization, "customers:cus_bob:available:EUR")
    fund(organization, ann, 100_00)
    return organization, ann, bob


def rows() -> tuple[int, int, int]:
    return JournalEntry.objects.count(), Posting.objects.count(), OutboxEvent.objects.count()


class TestPostTransfer:
    def test_moves_money_and_leaves_an_entry_and_its_event(self, books):
        organization, ann, bob = books

        result = post_transfer(organization, ann, bob, 30_00, key="k-1", description="Rent")

        assert balance(organization, ann).available == 70_00
        assert balance(organization, bob).available == 30_00
        entry = queries.get_entry(organization_id=organization, entry_id=result.entry_id)
        assert [(p.amount_minor, p.balance_after_minor) for p in entry.postings] == [
            (30_00, 70_00),
            (-30_00, 30_00),
        ]
        event = OutboxEvent.objects.filter(type="journal_entry.posted").latest("recorded_at")
        assert event.data["postings"][0]["amount"] == 30_00
        assert event.actor == "job:tests"
        assert breaches() == []

    def test_without_funds_moves_nothing_and_keeps_the_answer(self, books):
        organization, ann, bob = books
        before = rows()

        with pytest.raises(InsufficientFunds) as refused:
            post_transfer(organization, ann, bob, 100_01, key="k-1")

        assert refused.value.details["available"] == 100_00
        assert rows() == before
        assert balance(organization, ann).available == 100_00
        assert IdempotencyKey.objects.get(key="k-1").refusal_code == "insufficient_funds"

    def test_refused_stays_refused_under_its_key_when_money_arrives(self, books):
        organization, ann, bob = books
        with pytest.raises(InsufficientFunds):
            post_transfer(organization, ann, bob, 150_00, key="k-1")
        fund(organization, ann, 100_00)

        with pytest.raises(InsufficientFunds) as replayed:
            post_transfer(organization, ann, bob, 150_00, key="k-1")
        post_transfer(organization, ann, bob, 150_00, key="k-2")

        assert replayed.value.details["available"] == 100_00
        assert balance(organization, bob).available == 150_00

    def test_to_a_reserved_account_is_refused(self, books):
        organization, ann, _ = books
        [bank] = queries.account_ids(organization_id=organization, codes=["bank:ba_1:EUR"]).values()

        with pytest.raises(LedgerAccountReserved):
            post_transfer(organization, ann, bank, 1, key="k-1")

    def test_to_another_organizations_account_is_refused(self, books):
        organization, ann, _ = books
        stranger = open_account(create_organization("Other"), "customers:cus_x:available:EUR")

        with pytest.raises(LedgerAccountsNotFound):
            post_transfer(organization, ann, stranger, 1, key="k-1")

    def test_with_a_frozen_account_is_refused(self, books):
        organization, ann, bob = books
        committed(operations.change_account)(
            organization_id=organization,
            account_id=bob,
            change=AccountChange(status=AccountStatus.FROZEN, reason="asked by the bank"),
            actor=ACTOR,
            now=NOW,
        )

        with pytest.raises(LedgerAccountFrozen):
            post_transfer(organization, ann, bob, 1, key="k-1")


class TestReplay:
    def test_answers_the_same_entry_and_moves_nothing(self, books):
        organization, ann, bob = books
        first = post_transfer(organization, ann, bob, 10_00, key="k-1")
        context.begin()

        second = post_transfer(organization, ann, bob, 10_00, key="k-1")

        assert second.entry_id == first.entry_id
        assert context.current().replayed
        assert balance(organization, bob).available == 10_00

    def test_with_another_amount_is_refused_and_names_the_first(self, books):
        organization, ann, bob = books
        first = post_transfer(organization, ann, bob, 10_00, key="k-1")

        with pytest.raises(IdempotencyKeyReused) as refused:
            post_transfer(organization, ann, bob, 11_00, key="k-1")

        assert refused.value.details["resource"] == encode_id("je", first.entry_id)
        assert balance(organization, bob).available == 10_00

    def test_of_a_reference_answers_the_entry_that_stands(self, books):
        organization, ann, bob = books
        first = post_transfer(organization, ann, bob, 10_00, key="k-1", reference="inv-7")

        second = post_transfer(organization, ann, bob, 10_00, key="k-2", reference="inv-7")
        third = post_transfer(organization, ann, bob, 10_00, key="k-2", reference="inv-7")
        with pytest.raises(ReferenceReused):
            post_transfer(organization, ann, bob, 12_00, key="k-3", reference="inv-7")

        assert first.entry_id == second.entry_id == third.entry_id
        assert balance(organization, bob).available == 10_00

    def test_keys_of_two_organizations_do_not_meet(self, books):
        organization, ann, bob = books
        other = create_organization("Other")
        one, two = (open_account(other, f"customers:cus_{n}:available:EUR") for n in "xy")
        fund(other, one, 10_00)

        post_transfer(organization, ann, bob, 10_00, key="same")
        post_transfer(other, one, two, 10_00, key="same")

        assert balance(other, two).available == 10_00


class TestRace:
    def test_fifty_requests_with_one_key_make_one_transfer(self, books):
        organization, ann, bob = books
        before = JournalEntry.objects.count()

        outcomes = race(*[partial(post_transfer, organization, ann, bob, 1_00, key="one")] * 50)

        made = {outcome.entry_id for outcome in outcomes if hasattr(outcome, "entry_id")}
        refused = {o.code for o in outcomes if not hasattr(o, "entry_id")}
        assert len(made) == 1
        # Who waited longer than the lock timeout is told that the first is still running.
        assert refused <= {"request_in_progress"}
        assert JournalEntry.objects.count() == before + 1
        assert balance(organization, bob).available == 1_00

    def test_twenty_opposing_transfers_meet_no_deadlock(self, books):
        organization, ann, bob = books
        fund(organization, bob, 100_00)
        pairs = cycle([(ann, bob), (bob, ann)])

        for turn in range(5):
            calls = [
                partial(post_transfer, organization, *pair, 1_00, key=f"{turn}-{n}")
                for n, pair in zip(range(20), pairs, strict=False)
            ]
            outcomes = race(*calls)
            assert all(hasattr(outcome, "entry_id") for outcome in outcomes)

        assert balance(organization, ann).available == 100_00
        assert balance(organization, bob).available == 100_00
        assert breaches() == []

    @pytest.mark.parametrize("turn", range(5))
    def test_two_drain_an_account_once(self, books, turn):
        organization, ann, bob = books

        outcomes = race(
            *(partial(post_transfer, organization, ann, bob, 100_00, key=key) for key in "ab")
        )

        assert sorted(type(o).__name__ for o in outcomes) == ["InsufficientFunds", "TransferResult"]
        assert balance(organization, ann).available == 0

    def test_two_first_transfers_from_a_never_used_account_do_not_overdraw(self, books):
        organization, _, bob = books
        fresh = open_account(organization, "customers:cus_new:available:EUR")

        outcomes = race(
            *(partial(post_transfer, organization, fresh, bob, 1, key=key) for key in "ab")
        )

        assert {type(o).__name__ for o in outcomes} == {"InsufficientFunds"}

    @pytest.mark.parametrize("turn", range(5))
    def test_one_reference_under_many_keys_is_posted_once(self, books, turn):
        organization, ann, bob = books

        outcomes = race(
            *(
                partial(post_transfer, organization, ann, bob, 5_00, key=f"k{n}", reference="inv")
                for n in range(10)
            )
        )

        assert len({outcome.entry_id for outcome in outcomes}) == 1
        assert balance(organization, bob).available == 5_00


class TestPostTransfers:
    def batch(self, organization, requests, *, mode, key="b-1"):
        return operations.post_transfers(
            organization_id=organization,
            transfers=requests,
            mode=mode,
            idempotency_key=key,
            actor=ACTOR,
            now=NOW,
        )

    def request(self, debit, credit, amount, **more):
        return TransferRequest(
            debit_account_id=debit, credit_account_id=credit, amount_minor=amount,
            currency="EUR", **more,
        )  # fmt: skip

    def test_independent_answers_each_and_replays_the_same(self, books):
        organization, ann, bob = books
        requests = [
            self.request(ann, bob, 60_00),
            self.request(ann, bob, 60_00),
            self.request(bob, ann, 10_00),
        ]

        first = self.batch(organization, requests, mode="independent")
        second = self.batch(organization, requests, mode="independent")

        assert [entry is not None for entry in first.entry_ids] == [True, False, True]
        assert first.refusals[1].code == "insufficient_funds"
        assert second.entry_ids == first.entry_ids
        assert second.refusals[1].code == "insufficient_funds"
        assert second.refusals[1].details == first.refusals[1].details
        assert balance(organization, bob).available == 50_00
        assert breaches() == []

    def test_under_a_new_key_answers_what_its_references_stand_for(self, books):
        organization, ann, bob = books
        eve = open_account(organization, "wallets:eve:EUR")
        requests = [
            self.request(ann, bob, 60_00, reference="a"),
            self.request(ann, bob, 90_00, reference="b", up_to=True),
        ]
        first = self.batch(organization, requests[:1], mode="atomic")
        later = [*requests, self.request(ann, eve, 5_00, reference="c")]
        post_transfer(organization, bob, ann, 10_00, key="between")

        # The first stands, the second moves what is left, which leaves nothing for the third.
        preview = operations.preview_batch(
            organization_id=organization, transfers=later, mode="independent", now=NOW
        )
        second = self.batch(organization, later, mode="independent", key="b-2")
        before = rows()[:2]
        third = self.batch(organization, requests[:1], mode="atomic", key="b-3")

        assert second.entry_ids[0] == first.entry_ids[0] == third.entry_ids[0]
        assert (first.amounts, third.amounts) == ((60_00,), (60_00,))
        assert preview.amounts == second.amounts == (60_00, 50_00, None)
        assert second.refusals[2].code == "insufficient_funds"
        for result in (preview, second, third):
            assert {one.id: (one.posted, one.available) for one in result.balances} == {
                ann: (0, 0), bob: (100_00, 100_00),
            }  # fmt: skip
        assert rows()[:2] == before
        assert breaches() == []

    def test_of_a_thousand_replays_takes_as_many_statements_as_of_one(self, books):
        organization, ann, bob = books
        counts = []
        for size in (1, 1_000):
            requests = [self.request(ann, bob, 1, reference=f"{size}-{n}") for n in range(size)]
            self.batch(organization, requests, mode="atomic", key=f"first-{size}")

            with CaptureQueriesContext(connection) as captured:
                again = self.batch(organization, requests, mode="atomic", key=f"again-{size}")

            assert again.amounts == (1,) * size
            counts.append(len(captured))

        assert counts[0] == counts[1]

    def test_that_is_forced_writes_its_trail_by_one_statement(self, books):
        organization, ann, bob = books
        counts = []
        for size in (1, 50):
            requests = [self.request(ann, bob, 1, force=True)] * size

            with CaptureQueriesContext(connection) as captured:
                self.batch(organization, requests, mode="atomic", key=f"forced-{size}")

            counts.append(len(captured))
        trail = AuditEvent.objects.filter(act="ledger.force_transfer")

        assert counts[0] == counts[1]
        assert len({row.subject_id for row in trail}) == trail.count() == 51

    def test_atomic_names_the_first_refused_and_moves_nothing(self, books):
        organization, ann, bob = books
        before = rows()

        with pytest.raises(InsufficientFunds) as refused:
            self.batch(
                organization,
                [self.request(ann, bob, amount) for amount in (60_00, 60_00, 40_00, 90_00)],
                mode="atomic",
            )

        assert refused.value.details["index"] == 1
        assert refused.value.details["requested"] == 60_00
        assert rows() == before
        assert balance(organization, ann).available == 100_00

    def test_ten_thousand_cost_as_many_statements_as_ten(self, books):
        organization, ann, bob = books
        fund(organization, bob, 10_000_00)
        counts = []
        for size in (10, 10_000):
            requests = [self.request(bob, ann, 1)] * size
            with CaptureQueriesContext(connection) as captured:
                self.batch(organization, requests, mode="atomic", key=f"size-{size}")
            counts.append(len(captured))

        assert counts[0] == counts[1]
        assert balance(organization, ann).available == 100_00 + 10_010

    def test_opposing_batches_meet_no_deadlock(self, books):
        organization, ann, bob = books
        fund(organization, bob, 100_00)
        there = [self.request(ann, bob, 1)] * 20
        back = [self.request(bob, ann, 1)] * 20

        outcomes = race(
            *(
                partial(self.batch, organization, requests, mode="atomic", key=f"{n}-{name}")
                for n in range(5)
                for name, requests in (("there", there), ("back", back))
            )
        )

        assert all(hasattr(outcome, "batch_id") for outcome in outcomes)
        assert balance(organization, ann).available == 100_00
        assert breaches() == []
