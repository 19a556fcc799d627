"""The seventeen cases of the design that must hold, by their numbers."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import product

import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection

from apps.core import clock, outbox
from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey, OutboxEvent
from apps.ledger import operations
from apps.ledger.errors import InsufficientFunds, LaterBalanceBelowFloor
from apps.ledger.models import HoldEvent, JournalEntry, Posting
from apps.ledger.operations import CaptureRequest, FxRequest, HoldRequest, TransferRequest
from apps.ledger.rules import Leg, PostEntry
from tests.ledger.acting import Client
from tests.ledger.clients import ApiClient, code_of, pointers, printed
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.rows import fingerprints
from tests.ledger.server import deadlocks, psql
from tests.support import is_serializable, race, running, until_serialized

pytestmark = pytest.mark.django_db(transaction=True)

SCOPES = ("ledger:read", "ledger:write", "transfers:write", "holds:write", "history:write")


@pytest.fixture
def books():
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR")
    bob = open_account(organization, "wallets:bob:EUR")
    return organization, ann, bob


@pytest.fixture
def api():
    return ApiClient(*SCOPES)


def place(organization, debit, credit, amount, **more):
    request = HoldRequest(
        debit_account_id=debit, credit_account_id=credit, amount_minor=amount, currency="EUR",
        **more,
    )  # fmt: skip
    return operations.place_hold(
        organization_id=organization, hold=request, idempotency_key=str(new_id()), actor=ACTOR,
        now=NOW,
    ).hold_id  # fmt: skip


def capture(organization, hold, amount=None):
    operations.capture_hold(
        organization_id=organization, hold_id=hold, capture=CaptureRequest(amount_minor=amount),
        idempotency_key=str(new_id()), actor=ACTOR, now=NOW,
    )  # fmt: skip
    return "captured"


def void(organization, hold):
    operations.void_hold(
        organization_id=organization, hold_id=hold, idempotency_key=str(new_id()), actor=ACTOR,
        now=NOW,
    )  # fmt: skip
    return "voided"


def told(hold) -> list[tuple[str, int]]:
    """What the feed says of a hold, in order: what happened, and what that released."""
    events = OutboxEvent.objects.filter(aggregate_id=encode_id("ho", hold)).order_by("sequence")
    return [(event.name.rpartition(".")[2], event.data.get("released", 0)) for event in events]


def codes(outcomes) -> list[str]:
    """Refusals by their codes, successes by nothing, in order."""
    return sorted(getattr(outcome, "code", "") for outcome in outcomes)


def body(client, amount, **more) -> dict:
    return {
        "debit_account": printed(client.ann),
        "credit_account": printed(client.bob),
        "amount": amount,
        "currency": "EUR",
        **more,
    }


class TestCase01:
    """Six concurrent holds of 1000 on 5000: exactly five succeed."""

    @pytest.mark.parametrize("turn", range(8))
    def test_five_of_six_holds_succeed(self, books, turn):
        organization, ann, bob = books
        fund(organization, ann, 5000)

        outcomes = race(*[partial(place, organization, ann, bob, 1000)] * 6)

        assert codes(outcomes) == [""] * 5 + ["insufficient_funds"]
        assert (balance(organization, ann).available, balance(organization, ann).posted) == (
            0,
            5000,
        )
        assert HoldEvent.objects.count() == 5
        assert breaches() == []


class TestCase02:
    """Hold 15, capture 13: posted 13, pending 0, 2 released; all further ends are refused."""

    def test_a_hold_is_captured_once_and_the_rest_is_free(self, books):
        organization, ann, bob = books
        fund(organization, ann, 15)
        hold = place(organization, ann, bob, 15)

        capture(organization, hold, 13)

        for end in (partial(capture, organization, hold, 2), partial(void, organization, hold)):
            assert codes(race(end)) == ["hold_already_captured"]
        view = balance(organization, ann)
        assert (view.posted, view.pending_out, view.available) == (2, 0, 2)
        view = balance(organization, bob)
        assert (view.posted, view.pending_in) == (13, 0)
        assert told(hold) == [("placed", 0), ("captured", 2)]
        assert breaches() == []


class TestCase03:
    """Captures of 5000 and 5000 of 10000 with `multi_capture`, then 1: the last is refused."""

    def test_a_hold_of_many_captures_is_used_up(self, books):
        organization, ann, bob = books
        fund(organization, ann, 10_001)
        hold = place(organization, ann, bob, 10_000, multi_capture=True)

        capture(organization, hold, 5000)
        assert (balance(organization, ann).pending_out, balance(organization, bob).pending_in) == (
            5000,
            5000,
        )
        capture(organization, hold, 5000)

        assert codes(race(partial(capture, organization, hold, 1))) == ["hold_already_captured"]
        assert (balance(organization, ann).pending_out, balance(organization, bob).pending_in) == (
            0,
            0,
        )
        assert (balance(organization, ann).available, balance(organization, bob).posted) == (
            1,
            10_000,
        )
        # What is not captured yet stays reserved: nothing is released until the last.
        assert told(hold) == [("placed", 0), ("captured", 0), ("captured", 0)]
        assert breaches() == []

    @pytest.mark.parametrize("end", ["captured", "voided", "expired"])
    def test_whose_end_comes_before_releases_what_was_left_of_it(self, books, end):
        organization, ann, bob = books
        fund(organization, ann, 10_000)
        hold = place(
            organization, ann, bob, 10_000, multi_capture=True, expires_at=NOW + timedelta(hours=1)
        )
        capture(organization, hold, 7000)

        if end == "captured":
            capture(organization, hold, 0)
        elif end == "voided":
            void(organization, hold)
        else:
            operations.expire_holds(organization_id=organization, now=NOW + timedelta(hours=1))

        assert told(hold) == [("placed", 0), ("captured", 0), (end, 3000)]
        view = balance(organization, ann)
        assert (view.posted, view.pending_out, view.available) == (3000, 0, 3000)
        assert (balance(organization, bob).posted, balance(organization, bob).pending_in) == (
            7000,
            0,
        )
        assert breaches() == []


class TestCase04:
    """Two captures of one hold at once: one wins. Capture against void: one end, one event."""

    @pytest.mark.parametrize("turn", range(10))
    def test_two_captures_have_one_winner(self, books, turn):
        organization, ann, bob = books
        fund(organization, ann, 1000)
        hold = place(organization, ann, bob, 1000)

        outcomes = race(*[partial(capture, organization, hold)] * 2)

        assert [o for o in outcomes if o == "captured"] == ["captured"]
        assert codes(outcomes) == ["", "hold_already_captured"]
        assert balance(organization, bob).posted == 1000
        assert HoldEvent.objects.filter(terminal=True).count() == 1
        assert told(hold) == [("placed", 0), ("captured", 0)]
        assert breaches() == []

    @pytest.mark.parametrize("turn", range(10))
    def test_capture_against_void_has_one_end(self, books, turn):
        organization, ann, bob = books
        fund(organization, ann, 1000)
        hold = place(organization, ann, bob, 1000)

        outcomes = race(partial(capture, organization, hold), partial(void, organization, hold))

        [won] = [outcome for outcome in outcomes if isinstance(outcome, str)]
        assert codes(outcomes) == ["", f"hold_already_{won}"]
        assert [e.kind for e in HoldEvent.objects.filter(terminal=True)] == [won]
        assert told(hold) == [("placed", 0), (won, 1000 if won == "voided" else 0)]
        assert balance(organization, bob).posted == (1000 if won == "captured" else 0)
        assert balance(organization, ann).available == (0 if won == "captured" else 1000)
        assert breaches() == []


class TestCase05:
    """Balance 0 and a credit line of 10.00: 10.00 goes, 10.01 does not; 0.29 is 29 units."""

    def test_a_credit_line_is_used_to_the_last_unit(self, api):
        opened = api.post(
            "/v1/ledger-accounts",
            {"code": "wallets:line:EUR", "type": "liability", "currency": "EUR",
             "min_available": -10_00},
            key="open",
        ).json()  # fmt: skip
        line = {"debit_account": opened["id"]}

        over = api.post("/v1/transfers", body(api, 10_01) | line, key="a")
        exact = api.post("/v1/transfers", body(api, 10_00) | line, key="b")
        more = api.post("/v1/transfers", body(api, 1) | line, key="c")

        assert code_of(over) == code_of(more) == (422, "insufficient_funds")
        assert exact.status_code == 201
        assert exact.json()["balances"][0]["available"] == -10_00

    def test_amounts_are_units_and_never_fractions(self, api):
        answer = api.post("/v1/transfers", body(api, 29), key="a").json()
        fraction = api.post("/v1/transfers", body(api, 0.29), key="b")

        assert [b["available"] for b in answer["balances"]] == [100_00 - 29, 29]
        assert (fraction.status_code, pointers(fraction)) == (400, ["/amount"])


class TestCase06:
    """What answered 201 is there: to be read, and to be captured."""

    def test_a_transfer_is_read_straight_after(self, api):
        made = api.post("/v1/transfers", body(api, 30_00)).json()

        read = api.get(f"/v1/journal-entries/{made['id']}")
        account = api.get(f"/v1/ledger-accounts/{printed(api.bob)}")

        assert [p["amount"] for p in read.json()["postings"]] == [30_00, -30_00]
        assert account.json()["available"] == 30_00

    def test_a_hold_is_captured_straight_after(self, api):
        placed = api.post("/v1/holds", body(api, 30_00), key="a")
        hold = placed.json()["hold"]["id"]

        read = api.get(f"/v1/holds/{hold}")
        captured = api.post(f"/v1/holds/{hold}/capture", {}, key="b")

        assert (placed.status_code, read.status_code, captured.status_code) == (201, 200, 200)
        assert captured.json()["hold"]["captured"] == 30_00
        assert balance(api.organization, api.bob).posted == 30_00

    @pytest.mark.parametrize("turn", range(3))
    def test_each_of_many_at_once_finds_its_own_by_another_connection(self, api, turn):
        """One thread's COMMIT answers others, each of whom looks by a connection of its own."""

        def send(path: str, sent: dict, key: str):
            """Ask; again as a client does if it lost too often, as some do SERIALIZABLE."""
            answer = api.post(path, sent, key=key)
            while is_serializable() and answer.status_code == 503:
                answer = api.post(path, sent, key=key)
            return answer

        def move_and_read(key: str) -> int:
            made = send("/v1/transfers", body(api, 1), key).json()
            connection.close()
            return api.get(f"/v1/journal-entries/{made['id']}").status_code

        def place_and_capture(key: str) -> int:
            placed = send("/v1/holds", body(api, 1), key).json()
            connection.close()
            path = f"/v1/holds/{placed['hold']['id']}/capture"
            return send(path, {}, f"{key}-c").status_code

        answers = race(
            *(partial(move_and_read, f"t-{n}") for n in range(16)),
            *(partial(place_and_capture, f"h-{n}") for n in range(4)),
        )

        assert answers == [200] * 20
        assert balance(api.organization, api.bob).posted == 20
        assert breaches() == []


class TestCase07:
    """The same key twice inside one batch: no crash, the second is a replay."""

    def test_a_reference_twice_in_one_batch_is_posted_once(self, api):
        twice = [body(api, 5_00, reference="r-1")] * 2

        answer = api.post("/v1/transfers/batch", {"transfers": twice})

        assert answer.status_code == 201, answer.content
        first, second = (outcome["transfer"] for outcome in answer.json()["outcomes"])
        assert first == second
        assert balance(api.organization, api.bob).posted == 5_00

    @pytest.mark.parametrize("turn", range(5))
    def test_a_key_from_many_threads_is_posted_once(self, api, turn):
        """Those that gather while one writes are one batch, with this key many times in it."""
        send = partial(api.post, "/v1/transfers", body(api, 5_00), key="same")

        answers = race(*[send] * 16)

        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        replayed = [answer.get("Idempotent-Replayed") for answer in answers]
        assert sorted(map(str, replayed)) == ["None", *["true"] * 15]
        assert balance(api.organization, api.bob).posted == 5_00
        assert breaches() == []


class TestCase08:
    """Refused for funds, money arrives, same key again: the stored refusal; a new key succeeds."""

    def test_a_refusal_stands_under_its_key(self, api):
        first = api.post("/v1/transfers", body(api, 100_01), key="a")
        fund(api.organization, api.ann, 1, at=clock.now() - timedelta(hours=1))

        again = api.post("/v1/transfers", body(api, 100_01), key="a")
        fresh = api.post("/v1/transfers", body(api, 100_01), key="b")

        assert code_of(first) == code_of(again) == (422, "insufficient_funds")
        assert again.json()["available"] == 100_00
        assert again["Idempotent-Replayed"] == "true"
        assert fresh.status_code == 201
        assert balance(api.organization, api.bob).posted == 100_01


class TestCase09:
    """USD +5 and EUR -5 in one entry: refused at the statement, from psql as the tables' owner."""

    def test_currencies_do_not_balance_each_other(self, books):
        organization, ann, _ = books
        dollars = open_account(organization, "wallets:ann:USD")
        entry = new_id()

        with pytest.raises(IntegrityError) as refused, connection.cursor() as cursor:
            cursor.execute(self.written(organization, entry, dollars, ann))

        assert refused.value.__cause__.sqlstate == "23514"
        assert refused.value.__cause__.diag.constraint_name == "journal_entry_is_balanced"
        assert not JournalEntry.objects.filter(id=entry).exists()

    def test_nor_from_psql_as_the_owner_of_the_tables_and_at_the_statement(self, books):
        organization, ann, _ = books
        dollars = open_account(organization, "wallets:ann:USD")
        entry = new_id()

        owner, _ = psql("SELECT tableowner = current_user FROM pg_tables"
                        " WHERE tablename = 'ledger_posting'")  # fmt: skip
        told, said = psql(
            f"BEGIN; {self.written(organization, entry, dollars, ann)};", r"\echo written", "COMMIT"
        )

        assert owner == "t"
        # Not first at COMMIT.
        assert told == ""
        assert "ERROR:  23514: " in said
        assert "CONSTRAINT NAME:  journal_entry_is_balanced" in said
        assert not JournalEntry.objects.filter(id=entry).exists()

    @staticmethod
    def written(organization, entry, dollars, euros) -> str:
        """Return the statement that writes the entry: USD +5 and EUR -5."""
        of = f"'{organization}', '{entry}'"
        return (
            "WITH entry AS (INSERT INTO ledger_journal_entry (organization_id, id, kind,"
            " description, effective_at, recorded_at, actor, metadata)"
            f" VALUES ({of}, 'x', '', '{NOW}', '{NOW}', 'psql', '{{}}'))"
            " INSERT INTO ledger_posting (organization_id, entry_id, number, account_id,"
            " amount_minor, currency, account_version, balance_after_minor, effective_at,"
            f" recorded_at) VALUES ({of}, 1, '{dollars}', 5, 'USD', 1, -5, '{NOW}', '{NOW}'),"
            f" ({of}, 2, '{euros}', -5, 'EUR', 1, 5, '{NOW}', '{NOW}')"
        )

    def test_the_core_takes_no_such_entry(self, books):
        _, ann, bob = books

        with pytest.raises(ValueError, match="sums to 0 per currency"):
            PostEntry(
                id=new_id(), legs=(Leg(ann, 5, "USD"), Leg(bob, -5, "EUR")), currency="EUR",
                kind="x",
            )  # fmt: skip


class TestCase10:
    """UPDATE or DELETE of a posting with NULL columns, by ORM, bulk, raw SQL: refused."""

    @pytest.fixture
    def entry(self, books):
        organization, ann, bob = books
        fund(organization, ann, 10)
        # Neither a reference nor an original: those columns are NULL.
        entry = post_transfer(organization, ann, bob, 5, key="k").entry_id
        row = JournalEntry.objects.get(id=entry)
        assert (row.reference, row.reverses_id) == (None, None)
        return entry

    @pytest.mark.parametrize(
        "statement",
        [
            "UPDATE {} SET organization_id = organization_id",
            "UPDATE ledger_journal_entry SET reference = 'r' WHERE reference IS NULL",
            "UPDATE ledger_journal_entry SET reverses_id = NULL",
            "UPDATE ledger_posting SET amount_minor = amount_minor + 1",
            "UPDATE ledger_posting SET effective_at = now()",
            "DELETE FROM {}",
            "TRUNCATE {} CASCADE",
        ],
    )
    @pytest.mark.parametrize("table", ["ledger_posting", "ledger_journal_entry"])
    def test_raw_sql_is_refused(self, entry, table, statement):
        with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
            cursor.execute(statement.format(table))

    def test_the_orm_is_refused(self, entry):
        row, posting = JournalEntry.objects.get(id=entry), Posting.objects.first()
        row.reference = "r"
        posting.amount_minor += 1
        for write in (
            row.save,
            row.delete,
            posting.save,
            posting.delete,
            partial(Posting.objects.update, amount_minor=1),
            Posting.objects.all().delete,
            partial(Posting.objects.bulk_update, [posting], ["amount_minor"]),
            partial(JournalEntry.objects.bulk_update, [row], ["reference"]),
            partial(
                JournalEntry.objects.bulk_create, [row], update_conflicts=True,
                unique_fields=["organization_id", "id"], update_fields=["reference"],
            ),
        ):  # fmt: skip
            with pytest.raises(DatabaseError, match="append-only"):
                write()

        assert JournalEntry.objects.get(id=entry).reference is None
        assert breaches() == []


ROUNDS = 20
MOVES_BACK_AND_FORTH = """
import sys
from functools import partial
from uuid import UUID

import django

django.setup()
from tests.ledger.test_cases import move_back_and_forth
from tests.support import race

organization, ann, bob, euros, dollars = map(UUID, sys.argv[1:6])
worker, threads, rounds = sys.argv[6], int(sys.argv[7]), int(sys.argv[8])
race(*(
    partial(move_back_and_forth, organization, (ann, bob), (euros, dollars),
            worker=f"{worker}-{n}", forth=n % 2 == 0, rounds=rounds)
    for n in range(threads)
), seconds=400)
print("moved all", flush=True)
"""


def move_back_and_forth(organization, pair, wallets, *, worker, forth, rounds) -> int:
    """Move 1.00 and exchange 1.00, over and over, in one direction; every answer is a success."""
    debit, credit = pair if forth else reversed(pair)
    (sold, source), (bought, target) = (
        (("EUR", wallets[0]), ("USD", wallets[1])) if forth
        else (("USD", wallets[1]), ("EUR", wallets[0]))
    )  # fmt: skip
    for turn in range(rounds):
        key = f"{worker}-{turn}"
        fx = FxRequest(
            from_account_id=source, to_account_id=target, sold_minor=1_00, sold_currency=sold,
            bought_currency=bought, rate=Decimal(1), source="tests", quoted_at=NOW,
        )  # fmt: skip
        for act in (
            partial(post_transfer, organization, debit, credit, 1_00, key=f"t-{key}"),
            partial(
                post,
                organization,
                move(debit, credit, 1_00, linked=True),
                move(credit, debit, 1_00),
            ),
            partial(
                operations.exchange, organization_id=organization, fx=fx,
                idempotency_key=f"fx-{key}", actor=ACTOR, now=NOW,
            ),
        ):  # fmt: skip
            # Each by itself: who had to begin at the first round again might never end.
            until_serialized(act)
    return rounds


class TestCase11:
    """A->B and B->A, USD->EUR and EUR->USD, twenty workers: no deadlock, sums are zero."""

    @pytest.fixture
    def wallets(self, books):
        organization, ann, bob = books
        euros = open_account(organization, "wallets:fx:EUR")
        dollars = open_account(organization, "wallets:fx:USD")
        for account in (ann, bob, euros):
            fund(organization, account, 1000_00)
        fund(organization, dollars, 1000_00, currency="USD")
        return organization, ann, bob, euros, dollars

    @pytest.fixture(autouse=True)
    def _none_among_them(self, transactional_db):
        """Not one that is made good by running again, either."""
        before = deadlocks()
        yield
        assert deadlocks() == before

    def assert_nothing_lost(self, wallets) -> None:
        organization, *accounts = wallets
        assert [balance(organization, account).available for account in accounts] == [1000_00] * 4
        assert breaches() == []

    def test_twenty_threads_meet_no_deadlock(self, wallets):
        organization, ann, bob, euros, dollars = wallets

        done = race(
            *(
                partial(
                    move_back_and_forth, organization, (ann, bob), (euros, dollars),
                    worker=str(n), forth=n % 2 == 0, rounds=ROUNDS // 4,
                )
                for n in range(20)
            ),
            seconds=100,
        )  # fmt: skip

        assert done == [ROUNDS // 4] * 20
        self.assert_nothing_lost(wallets)

    def test_twenty_workers_of_two_processes_meet_no_deadlock(self, wallets):
        self.in_processes(wallets, processes=2, threads=10, rounds=ROUNDS // 4)

    @pytest.mark.soak
    @pytest.mark.timeout(600)
    def test_twenty_processes_meet_no_deadlock(self, wallets):
        self.in_processes(wallets, processes=20, threads=2, rounds=ROUNDS // 4)

    def in_processes(self, wallets, *, processes, threads, rounds) -> None:
        def work(number: int) -> str:
            ids = map(str, wallets)
            arguments = (*ids, f"p{number}", str(threads), str(rounds))
            with running("-c", MOVES_BACK_AND_FORTH, *arguments) as process:
                told, _ = process.communicate(timeout=500)
                # Before that there may be what it logged.
                return told.strip().rpartition("\n")[2] if process.returncode == 0 else told

        with ThreadPoolExecutor(processes) as pool:
            assert list(pool.map(work, range(processes))) == ["moved all"] * processes
        self.assert_nothing_lost(wallets)


class TestCase12:
    """Two first transfers from a never-used account in parallel: no overdraw."""

    @pytest.mark.parametrize("turn", range(ROUNDS // 2))
    def test_a_credit_line_is_drawn_once(self, books, turn):
        organization, _, bob = books
        fresh = open_account(organization, "wallets:new:EUR", floor=-10)

        outcomes = race(
            *(partial(post_transfer, organization, fresh, bob, 6, key=key) for key in "ab"),
            # Past the group of this process: a transaction of its own beside.
            partial(post, organization, move(fresh, bob, 6)),
        )

        assert codes(outcomes) == ["", "insufficient_funds", "insufficient_funds"]
        assert (balance(organization, fresh).posted, balance(organization, bob).posted) == (-6, 6)
        assert breaches() == []

    @pytest.mark.parametrize("turn", range(ROUNDS // 2))
    def test_a_line_for_one_of_two_is_of_one(self, books, turn):
        """To two receivers, each past the group: only the payer's balance is raced for."""
        organization, ann, bob = books
        fresh = open_account(organization, "wallets:new:EUR", floor=-10)
        receivers = (ann, bob)

        outcomes = race(
            *(partial(post, organization, move(fresh, receiver, 10)) for receiver in receivers)
        )

        assert codes(outcomes) == ["", "insufficient_funds"]
        assert balance(organization, fresh).posted == -10
        paid = [balance(organization, receiver).posted for receiver in receivers]
        assert paid == [0 if isinstance(one, Refusal) else 10 for one in outcomes]
        assert JournalEntry.objects.count() == 1
        assert breaches() == []


class TestCase13:
    """100, 50, 40, 90, 80 at t1...t5 on a floor of 0; -50 at t2: the balance after t3 is -10."""

    T = [datetime(2026, 10, day, 12, tzinfo=UTC) for day in (1, 2, 3, 4, 5)]

    def test_a_later_balance_refuses_what_is_back_dated(self, books):
        organization, ann, bob = books
        for at, change in zip(self.T, (100, -50, -10, 50, -10), strict=True):
            debit, credit = (ann, bob) if change < 0 else (bob, ann)
            if change > 0:
                fund(organization, bob, change, at=at)
            post(organization, move(debit, credit, abs(change), effective_at=at))
        before = fingerprints("ledger_", "core_outbox", locks=False)

        with pytest.raises(LaterBalanceBelowFloor) as refused:
            post_transfer(organization, ann, bob, 50, key="a", effective_at=self.T[1])

        assert (
            refused.value.details
            | {
                "balance": -10,
                "balance_at": self.T[2].isoformat().replace("+00:00", "Z"),
                "requested": 50,
                "min_available": 0,
            }
            == refused.value.details
        )
        assert refused.value.message == (
            f"This would leave -0.10 EUR on {encode_id('la', ann)} at 2026-10-03T12:00:00Z,"
            " below its floor of 0.00 EUR: money counts from its business time on."
        )
        assert fingerprints("ledger_", "core_outbox", locks=False) == before
        # To the last unit it goes, and today's balance alone would have borne the fifty.
        post_transfer(organization, ann, bob, 40, key="b", effective_at=self.T[1])
        post_transfer(organization, ann, bob, 40, key="c", effective_at=self.T[3] + timedelta(1))
        assert balance(organization, ann).available == 0
        assert breaches() == []

    def test_what_came_at_the_very_instant_is_there_and_a_tick_before_it_is_not(self, books):
        organization, ann, bob = books
        came = self.T[2]
        fund(organization, ann, 100, at=came)
        post(organization, move(ann, bob, 40, effective_at=came + timedelta(hours=1)))
        fund(organization, ann, 500, at=came + timedelta(hours=2))

        with pytest.raises(LaterBalanceBelowFloor) as early:
            post_transfer(
                organization, ann, bob, 1, key="a", effective_at=came - timedelta(microseconds=1)
            )
        with pytest.raises(LaterBalanceBelowFloor) as much:
            post_transfer(organization, ann, bob, 61, key="b", effective_at=came)
        post_transfer(organization, ann, bob, 60, key="c", effective_at=came)

        assert [told.value.details["balance"] for told in (early, much)] == [-1, -1]
        assert balance(organization, ann).available == 500
        assert breaches() == []


class TestCase14:
    """A reversal over an empty account works; of an entry whose money is spent it is refused."""

    def reverse(self, organization, entry, key):
        return operations.reverse_entries(
            organization_id=organization, entry_ids=[entry], at="now", reason="sent in error",
            idempotency_key=key, actor=ACTOR, now=NOW,
        )  # fmt: skip

    def test_a_pass_through_entry_is_undone_over_an_empty_account(self, books):
        organization, ann, bob = books
        through = open_account(organization, "wallets:through:EUR")
        fund(organization, ann, 100)
        # Hundred pass through, of which one stays and is spent.
        [outcome] = post(
            organization,
            PostEntry(
                id=new_id(), legs=(Leg(ann, 100), Leg(through, -1), Leg(bob, -99)), currency="EUR",
                kind="x",
            ),
        )  # fmt: skip
        fund(organization, through, 1)
        post_transfer(organization, through, ann, 1, key="spend")
        assert balance(organization, through).available == 1

        self.reverse(organization, outcome.entry_id, "undo")

        assert balance(organization, through).available == 0
        assert balance(organization, ann).available == 101
        assert balance(organization, bob).available == 0
        assert breaches() == []

    def test_of_spent_money_is_refused_and_moves_nothing(self, books):
        organization, ann, bob = books
        fund(organization, ann, 100)
        entry = post_transfer(organization, ann, bob, 100, key="a").entry_id
        post_transfer(organization, bob, ann, 1, key="b")
        before = fingerprints("ledger_", locks=False)

        with pytest.raises(InsufficientFunds) as refused:
            self.reverse(organization, entry, "undo")

        assert refused.value.details["ledger_account"] == encode_id("la", bob)
        assert fingerprints("ledger_", locks=False) == before


class TestCase15:
    """Amounts that are none: 400 naming the field, and no row."""

    @pytest.mark.parametrize(
        "amount",
        ["-1", "0", "NaN", "1e3", "10000000000001", "9223372036854775808", "true", '"10"', "10.0"],
    )
    @pytest.mark.parametrize("route", ["transfers", "transfers/batch", "holds"])
    def test_is_400_naming_the_field_and_leaves_no_row(self, api, route, amount):
        raw = json.dumps(body(api, "?")).replace('"?"', amount)
        field = "/amount"
        if route == "transfers/batch":
            raw, field = f'{{"transfers": [{raw}]}}', "/transfers/0/amount"
        before = fingerprints("ledger_", "core_")

        answer = api.post(f"/v1/{route}", raw)

        assert answer.status_code == 400, answer.content
        assert pointers(answer) == [field]
        assert fingerprints("ledger_", "core_") == before
        assert not IdempotencyKey.objects.filter(key="k-1").exists()

    @pytest.mark.parametrize(
        ("act", "amount"),
        [
            *product(
                ["capture", "journal-entries", "fx-transfers"],
                ["NaN", "1e3", "10000000000001", "9223372036854775808", "true", '"10"', "10.0"],
            ),
            # A capture of nothing releases all, and a credit is less than nothing.
            *(("capture", "-1"), ("journal-entries", "0")),
            *(("fx-transfers", "-1"), ("fx-transfers", "0")),
        ],
    )
    def test_of_another_act_is_400_naming_the_field_and_leaves_no_row(self, act, amount):
        api = Client()
        api.begin()
        asked, field = api.body(act), "/amount"
        if act == "journal-entries":
            asked["postings"][1]["amount"], field = "?", "/postings/1/amount"
        else:
            asked["amount"] = "?"
        before = fingerprints("ledger_", "core_")

        answer = api.post(api.path(act), json.dumps(asked).replace('"?"', amount))

        assert (answer.status_code, pointers(answer)) == (400, [field])
        assert fingerprints("ledger_", "core_") == before

    @pytest.mark.parametrize("route", ["transfers", "transfers/batch", "holds"])
    def test_the_largest_is_one(self, api, route):
        asked = body(api, 10**13)

        answer = api.post(
            f"/v1/{route}", {"transfers": [asked]} if route.endswith("batch") else asked
        )

        assert code_of(answer) == (422, "insufficient_funds")


class TestCase16:
    """A dry run to a never-used account, back-dated: the real run's answer, and no row changed."""

    def test_answers_as_the_real_run_and_touches_no_row(self, api):
        fresh = open_account(api.organization, "wallets:new:EUR")
        week_ago = (clock.now() - timedelta(days=7)).isoformat().replace("+00:00", "Z")
        fund(api.organization, api.ann, 50_00, at=clock.now() - timedelta(days=9))
        asked = body(api, 40_00, credit_account=printed(fresh), effective_at=week_ago)
        # What makes a caller known is written once, before.
        api.get("/v1/ledger-accounts")
        before = fingerprints()

        dry = api.post("/v1/transfers", asked | {"dry_run": True}, key=None)

        assert fingerprints() == before
        real = api.post("/v1/transfers", asked)
        assert real.status_code == 201, real.content
        told, done = dry.json(), real.json()
        assert told["balances"] == done["balances"]
        assert [b["available"] for b in done["balances"]] == [110_00, 40_00]
        ours = {"id", "created_at", "dry_run"}
        assert {k: v for k, v in told.items() if k not in ours} == {
            k: v for k, v in done.items() if k not in ours
        }
        assert fingerprints() != before

    def test_refuses_as_the_real_run_and_touches_no_row(self, books):
        organization, ann, bob = books
        fund(organization, ann, 10)
        asked = TransferRequest(
            debit_account_id=ann, credit_account_id=bob, amount_minor=10, currency="EUR",
            effective_at=NOW - timedelta(days=7),
        )  # fmt: skip
        before = fingerprints()

        [dry] = operations.preview_transfers(
            organization_id=organization, transfers=[asked], mode="independent", now=NOW
        )

        assert fingerprints() == before
        with pytest.raises(LaterBalanceBelowFloor) as real:
            operations.post_transfer(
                organization_id=organization, transfer=asked, idempotency_key="k", actor=ACTOR,
                now=NOW,
            )  # fmt: skip
        assert (dry.refusal.code, dry.refusal.details) == (real.value.code, real.value.details)


class TestCase17:
    """Corrupt one amount by SQL as superuser: `verify_ledger` names that entry, exits non-zero."""

    @pytest.mark.parametrize("sealed", [True, False])
    def test_names_the_entry_that_was_altered(self, books, sealed):
        organization, ann, bob = books
        fund(organization, ann, 1000)
        entries = [
            post_transfer(organization, ann, bob, 10 + n, key=str(n)).entry_id for n in range(5)
        ]
        if sealed:
            outbox.relay_organization(organization_id=organization)
            assert operations.seal_entries(organization_id=organization, now=NOW) == 6
        out = io.StringIO()
        call_command("verify_ledger", stdout=out)
        with connection.cursor() as cursor:
            # Both sides, so that the entry still sums to zero.
            cursor.execute(
                "SET session_replication_role = replica;"
                " UPDATE ledger_posting SET amount_minor = amount_minor * 2 WHERE entry_id = %s;"
                " SET session_replication_role = DEFAULT",
                [entries[2]],
            )

        out = io.StringIO()
        with pytest.raises(SystemExit) as ended:
            call_command("verify_ledger", stdout=out)

        assert ended.value.code == 1
        assert encode_id("je", entries[2]) in out.getvalue()
        others = [encode_id("je", id_) for id_ in entries if id_ != entries[2]]
        assert not [id_ for id_ in others if id_ in out.getvalue()]
