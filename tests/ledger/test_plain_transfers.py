"""
The plain transfer: posted by one statement where nothing has to be decided, as the engine would.

Everything else is left to the engine, and nothing of it is written before that.
"""

from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest

from apps.core import context
from apps.core.errors import Refusal
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey, OutboxBatch, OutboxEvent
from apps.ledger import operations
from apps.ledger.models import JournalEntry, Posting
from apps.ledger.operations import _plain
from apps.ledger.rules import (
    PlaceHold,
)
from tests.ledger.factories import (
    NOW,
    balance,
    create_organization,
    fund,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.plain import make_books, ticket
from tests.ledger.rows import fingerprints
from tests.ledger.test_monitors import watch
from tests.ledger.threads import sql

pytestmark = pytest.mark.django_db(transaction=True)

# What each run of the same act has of its own.
OWN = {
    "id", "entry_id", "batch_id", "resource_id", "aggregate_id", "key", "fingerprint", "created_at",
    "recorded_at", "inserted_at", "next_attempt_at", "account_version", "balance_after_minor",
}  # fmt: skip


@pytest.fixture
def books():
    return make_books()


@contextmanager
def engine_alone(monkeypatch):
    """Have the engine post what is plain, too."""
    with monkeypatch.context() as patched:
        patched.setattr(_plain, "_may_be_plain", lambda _command: False)
        yield


def rows(model, *, entry_id: UUID, key: str) -> list[dict[str, object]]:
    """Return a transfer's rows of a table, without what each run has of its own."""
    event = OutboxEvent.objects.filter(data__kind="transfer").latest("id")
    of = {
        IdempotencyKey: {"key": key},
        JournalEntry: {"id": entry_id},
        Posting: {"entry_id": entry_id},
        OutboxBatch: {"id": event.batch_id},
        OutboxEvent: {"id": event.id},
    }[model]
    found = model.objects.filter(**of).order_by(*(["number"] if model is Posting else []))
    return [{name: row[name] for name in row if name not in OWN} for row in found.values()]


class TestRows:
    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"description": "Rück — 'quoted'", "metadata": {"order": "4711", "ü": '"'}},
        ],
        ids=["bare", "with text"],
    )
    @pytest.mark.parametrize("debit", ["wallets:ann:EUR", "till:1:EUR"])
    @pytest.mark.parametrize("credit", ["wallets:bob:EUR", "till:2:EUR"])
    def test_are_those_that_the_engine_writes(self, books, monkeypatch, debit, credit, more):
        """Money leaves a wallet, or comes into a till: each side of either kind."""
        organization, ann, bob = books
        bank = open_account(organization, "bank:ba_1:EUR", type_="asset", floor=None, internal=True)
        tills = [
            open_account(organization, f"till:{n}:EUR", type_="asset", floor=0) for n in (1, 2)
        ]
        post(organization, *(move(till, ann, 50_00) for till in tills))
        post(organization, PlaceHold(
            id=new_id(), debit_account_id=ann, credit_account_id=bank, currency="EUR",
            amount_minor=7_00,
        ))  # fmt: skip
        ids = {
            "wallets:ann:EUR": ann, "wallets:bob:EUR": bob,
            "till:1:EUR": tills[0], "till:2:EUR": tills[1],
        }  # fmt: skip
        asked = partial(post_transfer, organization, ids[debit], ids[credit], 3_00, **more)
        tables = (IdempotencyKey, JournalEntry, Posting, OutboxBatch, OutboxEvent)

        plain = asked(key="plain")
        written = {table: rows(table, entry_id=plain.entry_id, key="plain") for table in tables}
        stood = {b.id: b for b in plain.outcome.balances}
        with engine_alone(monkeypatch):
            whole = asked(key="whole")

        assert written == {
            table: rows(table, entry_id=whole.entry_id, key="whole") for table in tables
        }
        # The second one moved as much again, each from where the first one had left it.
        for now in whole.outcome.balances:
            before = stood[now.id]
            change = 3_00 if now.posted > before.posted else -3_00
            assert now == (now.id, before.version + 1, before.posted + change,
                           before.available + change)  # fmt: skip
            assert (now.posted, now.available) == (
                balance(organization, now.id).posted, balance(organization, now.id).available,
            )  # fmt: skip
        for made in (plain, whole):
            assert made.outcome.status == "posted"
            assert made.outcome.entry_id == made.entry_id
            assert made.outcome.effective_at == NOW
            assert JournalEntry.objects.get(id=made.entry_id).recorded_at == made.recorded_at
        assert breaches() == []

    def test_of_an_event_name_what_led_to_it(self, books):
        """A consumer's transfer, whose event has that cause, as the engine's would."""
        organization, ann, bob = books
        cause, trace = new_id(), f"00-{'a' * 32}-{'b' * 16}-01"

        with context.because_of(context.Cause(cause, trace)):
            post_transfer(organization, ann, bob, 1, key="k")

        event = OutboxEvent.objects.latest("id")
        assert (event.causation_id, event.traceparent) == (cause, trace)
        assert OutboxBatch.objects.get(id=event.batch_id).traceparent == trace


def reuse(organization, ann, bob):
    post_transfer(organization, ann, bob, 2, key="k")
    return ticket(ann, bob)


def replay(organization, ann, bob):
    post_transfer(organization, ann, bob, 1, key="k")
    return ticket(ann, bob)


def change(set_: str, which: int):
    """Return what changes one of the two accounts first, by SQL."""

    def changed(organization, ann, bob):
        sql(f"UPDATE ledger_balance SET {set_} WHERE id = %s", (ann, bob)[which])
        return ticket(ann, bob)

    return changed


def closed(which: int):
    """One of the two is closed, and so is empty."""

    def asked(organization, *pair):
        gone = open_account(organization, "wallets:gone:EUR")
        sql("UPDATE ledger_balance SET status = 'closed' WHERE id = %s", gone)
        return ticket(*(gone if place == which else id_ for place, id_ in enumerate(pair)))

    return asked


def watched(which: int):
    def asked(organization, ann, bob):
        watch(organization, (ann, bob)[which], threshold=1)
        return ticket(ann, bob)

    return asked


def dated_later(organization, ann, bob):
    post_transfer(organization, ann, bob, 1, key="later", effective_at=NOW + timedelta(seconds=1))
    return ticket(ann, bob)


def of_another(organization, ann, bob):
    other = create_organization("Southwind")
    return ticket(ann, open_account(other, "wallets:zoe:EUR"))


def reserved(organization, ann, bob):
    post(organization, PlaceHold(
        id=new_id(), debit_account_id=ann, credit_account_id=bob, currency="EUR",
        amount_minor=60_00,
    ))  # fmt: skip
    return ticket(ann, bob, 40_01)


def from_a_till(organization, ann, bob):
    till = open_account(organization, "till:1:EUR", type_="asset", floor=0)
    post(organization, move(till, ann, 5_00))
    return ticket(bob, till, 5_01)


NOT_PLAIN = {
    "under a reference": lambda _, a, b: ticket(a, b, reference="order-1"),
    "back-dated": lambda _, a, b: ticket(a, b, effective_at=NOW - timedelta(days=1)),
    "as much as there is": lambda _, a, b: ticket(a, b, 200_00, up_to=True),
    "forced": lambda _, a, b: ticket(a, b, force=True),
    "linked": lambda _, a, b: ticket(a, b, linked=True),
    "not covered": lambda _, a, b: ticket(a, b, 100_01),
    "covered but for what is reserved": reserved,
    "more than a till holds": from_a_till,
    "from an account to itself": lambda _, a, _b: ticket(a, a),
    "from nowhere": lambda _, _a, b: ticket(new_id(), b),
    "to nowhere": lambda _, a, _b: ticket(a, new_id()),
    "to somebody else's account": of_another,
    "in another currency": lambda _, a, b: ticket(a, b, currency="USD"),
    "from a frozen account": change("status = 'frozen'", 0),
    "to a frozen account": change("status = 'frozen'", 1),
    "from a closed account": closed(0),
    "to a closed account": closed(1),
    "from one of Kassa's own": change("internal = TRUE", 0),
    "to one of Kassa's own": change("internal = TRUE", 1),
    "from a monitored account": watched(0),
    "to a monitored account": watched(1),
    "before what its account has seen": dated_later,
    "under a key that stands": replay,
    "under a key that stands for another request": reuse,
}


class TestWhatIsNotPlain:
    @pytest.mark.parametrize("name", NOT_PLAIN)
    def test_is_left_to_the_engine_and_nothing_of_it_is_written(self, books, name):
        organization, ann, bob = books
        asked = NOT_PLAIN[name](organization, ann, bob)
        before = fingerprints()

        _plain.post([(organization, asked)])

        assert asked.is_engines
        assert not asked.is_answered
        assert fingerprints() == before

    @pytest.mark.parametrize("name", NOT_PLAIN)
    def test_is_answered_as_the_engine_answers_it(self, books, monkeypatch, name):
        """The same outcome or refusal, beside the same books without a short way."""
        answers = []
        for is_alone in (False, True):
            organization = create_organization()
            ann = open_account(organization, "wallets:ann:EUR")
            bob = open_account(organization, "wallets:bob:EUR")
            fund(organization, ann, 100_00)
            asked = NOT_PLAIN[name](organization, ann, bob)
            with monkeypatch.context() as patched:
                if is_alone:
                    patched.setattr(_plain, "_may_be_plain", lambda _command: False)
                operations.post_asked(organization_id=organization, asked=[asked])
            try:
                outcome = operations.take_result(asked).outcome
                # A replay has none.
                answers.append(outcome and [
                    (line.amount_minor, line.account_version, line.available_after_minor)
                    for line in outcome.lines
                ])  # fmt: skip
            except Refusal as refusal:
                answers.append((refusal.code, sorted(refusal.details)))

        assert answers[0] == answers[1]
        assert breaches() == []
