"""Plain transfers of one organization that gathered: one statement, as the engine would have it."""

from datetime import timedelta

import pytest

from apps.core import context
from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey, OutboxBatch, OutboxEvent
from apps.core.wall_clock import print_instant
from apps.ledger import operations
from apps.ledger.errors import InsufficientFunds
from apps.ledger.models import JournalEntry, Posting
from apps.ledger.operations import _plain
from apps.ledger.rules import COUNTER_MAX, PlaceHold
from tests.ledger.factories import (
    NOW,
    balance,
    fund,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.plain import ask, leave_room, make_three, outcome_of, ticket
from tests.ledger.rows import fingerprints
from tests.ledger.test_plain_transfers import NOT_PLAIN, engine_alone
from tests.ledger.threads import sql

pytestmark = pytest.mark.django_db(transaction=True)

# What each run of the same acts has of its own.
OWN = {
    "id", "entry_id", "batch_id", "account_id", "resource_id", "organization_id", "aggregate_id",
    "key", "fingerprint", "created_at", "recorded_at", "inserted_at", "next_attempt_at", "data",
}  # fmt: skip


# A group happens at the latest that its accounts have seen, as far as clocks may differ.
DATED = "before what its account has seen"


@pytest.fixture
def books():
    return make_three()


class TestRows:
    def written(self, organization):
        """All that transfers wrote, what ann was given at first among them, in their order."""
        events = OutboxEvent.objects.filter(organization_id=organization, data__kind="transfer")
        batches = OutboxBatch.objects.filter(id__in=events.values("batch_id"))
        keys = IdempotencyKey.objects.filter(organization_id=organization)
        entries = JournalEntry.objects.filter(organization_id=organization, kind="transfer")
        postings = Posting.objects.filter(entry_id__in=entries.values("id"))
        return [
            [{name: value for name, value in row.items() if name not in OWN} for row in rows]
            for rows in (
                keys.order_by("key").values(), entries.order_by("id").values(),
                postings.order_by("entry_id", "number").values(),
                batches.order_by("id").values(), events.order_by("batch_id", "ordinal").values(),
            )
        ]  # fmt: skip

    def group(self):
        """Between wallets and tills, there and back, of money that only just came."""
        organization, ann, bob, cy = make_three()
        bank = open_account(organization, "bank:ba_1:EUR", type_="asset", floor=None, internal=True)
        till = open_account(organization, "till:1:EUR", type_="asset", floor=0)
        post(organization, PlaceHold(
            id=new_id(), debit_account_id=ann, credit_account_id=bank, currency="EUR",
            amount_minor=7_00,
        ))  # fmt: skip
        moves = [(ann, bob, 5_00), (bob, cy, 5_00), (till, cy, 4_00), (ann, till, 4_00),
                 (cy, ann, 9_00), (ann, bob, 1)]  # fmt: skip
        texts = [{}, {"description": "Rück — 'quoted'"}, {"metadata": {"order": "4711", "ü": '"'}}]
        return organization, [
            ticket(*move, key=f"k-{n}", **texts[n % 3]) for n, move in enumerate(moves)
        ]

    def test_are_those_that_the_engine_writes(self, monkeypatch):
        organization, asked = self.group()
        plain = ask(organization, asked)
        with engine_alone(monkeypatch):
            beside, same = self.group()
            whole = ask(beside, same)

        assert self.written(organization) == self.written(beside)
        assert [len(rows) for rows in self.written(organization)] == [6, 7, 14, 2, 7]
        assert [outcome_of(one) for one in asked] == [outcome_of(one) for one in same]
        assert [(one.outcome.status, one.outcome.effective_at) for one in plain] == [
            (one.outcome.status, one.outcome.effective_at) for one in whole
        ]
        assert breaches() == []

    def test_name_the_accounts_and_the_events_of_their_own_transfer(self):
        organization, asked = self.group()

        made = ask(organization, asked)

        for one, answer in zip(asked, made, strict=True):
            command = one.command
            postings = Posting.objects.filter(entry_id=answer.entry_id).order_by("number")
            assert [(row.account_id, row.amount_minor) for row in postings] == [
                (command.debit_account_id, command.amount_minor),
                (command.credit_account_id, -command.amount_minor),
            ]
            assert IdempotencyKey.objects.get(key=one.asked.key).resource_id == answer.entry_id
            event = OutboxEvent.objects.get(aggregate_id=encode_id("je", answer.entry_id))
            assert [line["amount"] for line in event.data["postings"]] == [
                command.amount_minor, -command.amount_minor,
            ]  # fmt: skip
        for account in {id_ for one in asked for id_ in one.accounts}:
            last = [line for one in made for line in one.outcome.balances if line.id == account][-1]
            now = balance(organization, account)
            assert (last.version, last.posted, last.available) == (
                now.version, now.posted, now.available,
            )  # fmt: skip

    def test_are_of_one_transaction_and_recorded_at_one_time(self, books):
        organization, ann, bob, _ = books

        made = ask(organization, [ticket(ann, bob, key=f"k-{n}") for n in range(5)])

        entries = JournalEntry.objects.filter(
            kind="transfer", id__in=[one.entry_id for one in made]
        )
        [recorded_at] = {row.recorded_at for row in entries}
        assert {one.recorded_at for one in made} == {recorded_at}
        [[written]] = sql(
            "SELECT count(DISTINCT xmin::text) FROM ledger_journal_entry WHERE id = ANY(%s)",
            [one.entry_id for one in made],
        )
        assert written == 1

    def test_of_events_name_what_led_to_them(self, books):
        organization, ann, bob, _ = books
        cause, trace = new_id(), f"00-{'a' * 32}-{'b' * 16}-01"

        with context.because_of(context.Cause(cause, trace)):
            ask(organization, [ticket(ann, bob, key=f"k-{n}") for n in range(2)])

        events = OutboxEvent.objects.filter(data__kind="transfer").order_by("-id")[:2]
        assert [(one.causation_id, one.traceparent) for one in events] == [(cause, trace)] * 2
        assert OutboxBatch.objects.get(id=events[0].batch_id).traceparent == trace


class TestOneAfterTheOther:
    def test_may_spend_what_came_before_it_in_the_group(self, books):
        organization, ann, bob, cy = books
        asked = [ticket(ann, bob, 100_00, key="in"), ticket(bob, cy, 100_00, key="on")]

        _plain.post_together(organization, asked)

        assert [one.is_answered for one in asked] == [True, True]
        assert balance(organization, cy).available == 100_00
        assert breaches() == []

    def test_may_not_spend_what_comes_after_it(self, books):
        organization, ann, bob, cy = books
        asked = [ticket(bob, cy, 100_00, key="on"), ticket(ann, bob, 100_00, key="in")]

        operations.post_asked(organization_id=organization, asked=asked)

        with pytest.raises(InsufficientFunds):
            operations.take_result(asked[0])
        assert operations.take_result(asked[1]).outcome.status == "posted"
        assert breaches() == []

    def test_are_refused_from_where_the_money_is_spent(self, books):
        """Five of eight: the group is the engine's, which posts as many as there is money for."""
        organization, ann, bob, _ = books
        asked = [ticket(ann, bob, 20_00, key=f"k-{n}") for n in range(8)]

        operations.post_asked(organization_id=organization, asked=asked)

        assert [outcome_of(one)[0] for one in asked[5:]] == ["insufficient_funds"] * 3
        assert balance(organization, bob).available == 100_00
        assert breaches() == []

    def test_have_the_latest_time_of_them(self, books, later):
        organization, ann, bob, _ = books
        asked = [ticket(ann, bob, key="1", now=later), ticket(ann, bob, key="2")]

        made = ask(organization, asked)

        assert [one.outcome.effective_at for one in made] == [later, later]

    @pytest.mark.parametrize("microseconds", [1, 4_999_999, 5_000_000])
    def test_or_the_latest_that_one_of_their_accounts_has_seen(self, books, microseconds):
        """Of another process, whose clock is ahead, or which was first and asked later."""
        organization, ann, bob, cy = books
        later = NOW + timedelta(microseconds=microseconds)
        post_transfer(organization, ann, bob, 1, key="k", effective_at=later)
        asked = [ticket(ann, cy, key="1"), ticket(bob, cy, key="2")]

        _plain.post_together(organization, asked)

        made = [operations.take_result(one) for one in asked]
        assert [one.outcome.effective_at for one in made] == [later, later]
        for one in made:
            event = OutboxEvent.objects.get(aggregate_id=encode_id("je", one.entry_id))
            assert event.occurred_at == NOW
            assert event.data["effective_at"] == print_instant(later)
            postings = Posting.objects.filter(entry_id=one.entry_id)
            assert {row.effective_at for row in postings} == {later}
        assert breaches() == []

    def test_but_not_one_that_no_clock_would_show(self, books):
        organization, ann, bob, cy = books
        later = NOW + timedelta(microseconds=5_000_001)
        post_transfer(organization, ann, bob, 1, key="k", effective_at=later)
        asked = [ticket(ann, cy, key="1"), ticket(ann, cy, key="2")]

        _plain.post_together(organization, asked)

        assert [one.is_engines for one in asked] == [True, True]
        assert [one.outcome.effective_at for one in ask(organization, asked)] == [NOW, NOW]
        assert breaches() == []

    def test_may_not_take_from_a_till_what_only_comes_back_later(self, books):
        """Each is counted with those before it, on accounts of either kind."""
        organization, _, bob, _ = books
        till = open_account(organization, "till:1:EUR", type_="asset", floor=0)
        post(organization, move(till, bob, 5))
        asked = [ticket(*pair, 3, key=f"k-{n}")
                 for n, pair in enumerate([(bob, till), (bob, till), (till, bob)])]  # fmt: skip

        _plain.post_together(organization, asked)

        assert [one.is_engines for one in asked] == [True] * 3
        assert balance(organization, till).available == 5

    @pytest.mark.parametrize("side", ["posted_debits", "posted_credits"])
    def test_have_room_for_all_of_them_or_are_the_engines(self, books, side):
        organization, ann, bob, _ = books
        leave_room(bob, 5)
        pair = (bob, ann) if side == "posted_debits" else (ann, bob)
        asked = [ticket(*pair, 3, key=f"k-{n}") for n in range(2)]

        _plain.post_together(organization, asked)

        assert [one.is_engines for one in asked] == [True] * 2
        assert sql(f"SELECT {side} FROM ledger_balance WHERE id = %s", bob) == [(COUNTER_MAX - 5,)]


@pytest.fixture
def later():
    return NOW.replace(microsecond=NOW.microsecond + 1)


class TestOneThatIsNotPlain:
    """Among five others: none of them is posted without the engine."""

    def among(self, organization, odd):
        dee, eve = (open_account(organization, f"wallets:{name}:EUR") for name in ("dee", "eve"))
        fund(organization, dee, 5)
        plain = [ticket(dee, eve, key=f"plain-{n}") for n in range(5)]
        return [*plain[:2], odd, *plain[2:]]

    @pytest.mark.parametrize("name", [name for name in NOT_PLAIN if name != DATED])
    def test_leaves_them_to_the_engine_and_nothing_is_written(self, books, name):
        organization, ann, bob, _ = books
        asked = self.among(organization, NOT_PLAIN[name](organization, ann, bob))
        before = fingerprints(locks=False)

        _plain.post_together(organization, asked)

        assert all(one.is_engines and not one.is_answered for one in asked)
        assert fingerprints(locks=False) == before

    # A link binds one to the next of its batch, and a request that is alone has none.
    @pytest.mark.parametrize("name", [name for name in NOT_PLAIN if name != "linked"])
    def test_is_answered_as_alone_and_harms_no_other(self, books, name):
        organization, ann, bob, _ = books
        asked = self.among(organization, NOT_PLAIN[name](organization, ann, bob))
        beside, ann, bob, _ = make_three()
        alone = NOT_PLAIN[name](beside, ann, bob)

        operations.post_asked(organization_id=organization, asked=asked)
        operations.post_asked(organization_id=beside, asked=[alone])

        assert outcome_of(asked.pop(2)) == outcome_of(alone)
        assert [operations.take_result(one).outcome.status for one in asked] == ["posted"] * 5
        assert breaches() == []

    def test_is_a_second_one_under_the_same_key(self, books):
        organization, ann, bob, _ = books
        asked = [ticket(ann, bob, key="k"), ticket(ann, bob, key="k")]

        first, second = ask(organization, asked)

        assert first.entry_id == second.entry_id
        assert balance(organization, bob).available == 1
