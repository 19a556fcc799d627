"""
Races for one thing, each run many times: in threads, past the group of a process, in processes.

What is raced for is made by hand, so that whoever comes first is the only one who can have it.
"""

import json
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from itertools import count
from threading import Event

import pytest

from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.ledger import operations, queries
from apps.ledger.errors import AlreadyReversed
from apps.ledger.models import Hold, HoldEvent, JournalEntry
from apps.ledger.operations import AccountChange, CaptureRequest, HoldRequest, TransferRequest
from apps.ledger.rules import AccountStatus, PlaceHold, VoidHold
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    committed,
    create_organization,
    fund,
    move,
    open_account,
    post,
    post_transfer,
)
from tests.ledger.threads import Asking, is_waiting
from tests.support import race, running, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

TURNS = 10
keys = count()


def open_books():
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR")
    bob = open_account(organization, "wallets:bob:EUR")
    return organization, ann, bob


@pytest.fixture
def books():
    return open_books()


def asked(organization, **more) -> dict:
    return {
        "organization_id": organization, "idempotency_key": f"k-{next(keys)}", "actor": ACTOR,
        "now": NOW, **more,
    }  # fmt: skip


def place(organization, debit, credit, amount, **more):
    hold = HoldRequest(
        debit_account_id=debit, credit_account_id=credit, amount_minor=amount, currency="EUR",
        **more,
    )  # fmt: skip
    return operations.place_hold(**asked(organization), hold=hold).hold_id


def capture(organization, hold, amount=None, *, now=NOW) -> str:
    request = CaptureRequest(amount_minor=amount)
    operations.capture_hold(**asked(organization, now=now), hold_id=hold, capture=request)
    return "captured"


def reverse(organization, *entries):
    return operations.reverse_entries(
        **asked(organization), entry_ids=entries, at="now", reason="sent in error"
    )


def codes(outcomes) -> list[str]:
    """Refusals by their codes, successes by nothing, in order."""
    return sorted(getattr(outcome, "code", "") for outcome in outcomes)


@pytest.mark.parametrize("turn", range(TURNS))
class TestHolds:
    def test_captured_in_parts_by_many_give_no_more_than_they_reserve(self, books, turn):
        organization, ann, bob = books
        fund(organization, ann, 15_000)
        hold = place(organization, ann, bob, 10_000, multi_capture=True)

        outcomes = race(*[partial(capture, organization, hold, 3_000)] * 6)

        assert codes(outcomes) == [""] * 3 + ["capture_exceeds_hold"] * 3
        assert {o.details["remaining"] for o in outcomes if isinstance(o, Refusal)} == {1_000}
        view = balance(organization, ann)
        assert (view.posted, view.pending_out, view.available) == (6_000, 1_000, 5_000)
        assert balance(organization, bob).posted == 9_000
        assert breaches() == []

    def test_used_up_by_two_of_many_end_once(self, books, turn):
        organization, ann, bob = books
        fund(organization, ann, 10_000)
        hold = place(organization, ann, bob, 10_000, multi_capture=True)

        outcomes = race(*[partial(capture, organization, hold, 5_000)] * 5)

        assert codes(outcomes) == [""] * 2 + ["hold_already_captured"] * 3
        assert HoldEvent.objects.filter(terminal=True).count() == 1
        assert (balance(organization, ann).posted, balance(organization, bob).posted) == (0, 10_000)
        assert breaches() == []

    def test_that_expire_as_they_are_captured_have_one_end(self, books, turn):
        """The sweeper's clock is past the hold's time, the capture's a moment before it."""
        organization, ann, bob = books
        fund(organization, ann, 1_000)
        hold = place(organization, ann, bob, 1_000, expires_at=NOW + timedelta(minutes=1))

        captured, swept = race(
            partial(capture, organization, hold, now=NOW + timedelta(seconds=59)),
            partial(
                operations.expire_holds, organization_id=organization,
                now=NOW + timedelta(minutes=1),
            ),
        )  # fmt: skip

        ends = [event.kind for event in HoldEvent.objects.filter(terminal=True)]
        if captured == "captured":
            assert (swept, ends) == (0, ["captured"])
        else:
            assert (captured.code, swept, ends) == ("hold_expired", 1, ["expired"])
        assert balance(organization, bob).posted == (1_000 if captured == "captured" else 0)
        assert balance(organization, ann).pending_out == 0
        assert breaches() == []


@pytest.mark.parametrize("turn", range(TURNS))
class TestSweepers:
    def test_and_who_needs_the_money_release_each_hold_once(self, books, turn):
        organization, ann, bob = books
        fund(organization, ann, 100)
        over = NOW + timedelta(minutes=1)
        for _ in range(5):
            place(organization, ann, bob, 20, expires_at=over)
        sweep = partial(operations.expire_holds, organization_id=organization, now=over)
        request = TransferRequest(
            debit_account_id=ann, credit_account_id=bob, amount_minor=100, currency="EUR"
        )

        *swept, moved = race(
            *[sweep] * 3,
            partial(operations.post_transfer, **asked(organization, now=over), transfer=request),
        )

        # What the transfer released for itself was swept by none.
        assert sum(swept) <= 5
        assert moved.outcome.lines[0].amount_minor == 100
        assert HoldEvent.objects.filter(kind="expired", terminal=True).count() == 5
        assert (balance(organization, ann).available, balance(organization, bob).pending_in) == (
            0,
            0,
        )
        assert breaches() == []


class TestABalanceWithItsHolds:
    @staticmethod
    def of_one(organization, account):
        return queries.balance_with_holds(
            organization_id=organization, account_id=account, now=NOW
        )[:2]

    @staticmethod
    def of_a_branch(organization, account):
        """As a customer's page has it."""
        found = queries.branch_with_holds(
            organization_id=organization, code_prefix="wallets", now=NOW, limit=100
        )
        [mine] = [pair for pair in found if pair[0].account_id == account]
        return mine

    @pytest.mark.parametrize("read", ["of_one", "of_a_branch"])
    def test_is_one_read_whatever_is_placed_and_ended_meanwhile(self, books, read):
        organization, ann, bob = books
        fund(organization, ann, 1_000_000)

        def placer() -> None:
            for amount in range(1, 26):
                hold = place(organization, ann, bob, amount, multi_capture=True)
                capture(organization, hold, amount // 2 or None)

        def reader() -> int:
            seen = set()
            for _ in range(150):
                view, holds = getattr(self, read)(organization, ann)
                assert view.pending_out == sum(hold.remaining_minor for hold in holds)
                seen.add((view.version, view.pending_out))
            return len(seen)

        *_, first, second = race(*[placer] * 3, reader, reader)

        # They did look while something happened.
        assert first + second > 4
        assert breaches() == []


def holds_of_one_reference(*pairs) -> list[PlaceHold]:
    return [
        PlaceHold(
            id=new_id(), debit_account_id=debit, credit_account_id=credit, amount_minor=7,
            currency="EUR", reference="r",
        )
        for debit, credit in pairs
    ]  # fmt: skip


@contextmanager
def uncommitted(organization, commands, model):
    """Have them written under the reference `r` by a transaction that commits as the block ends."""
    written, go_on = Event(), Event()

    @committed
    def act() -> None:
        operations.post(organization_id=organization, commands=commands, actor=ACTOR, now=NOW)
        # What the engine writes goes out with the next look at the database, or with COMMIT.
        assert model.objects.filter(reference="r").exists()
        written.set()
        assert go_on.wait(60)

    first = Asking(act)
    wait_until(lambda: written.is_set() or not first.is_alive())
    try:
        yield
    finally:
        go_on.set()
        assert first.ended().fault is None


class TestReferences:
    """Of accounts that have nothing in common: no lock of theirs keeps one from the other."""

    @pytest.fixture
    def apart(self, books):
        organization, ann, bob = books
        cat, dan = (open_account(organization, f"wallets:{name}:EUR") for name in ("cat", "dan"))
        fund(organization, ann, 100)
        fund(organization, cat, 100)
        return organization, ann, bob, cat, dan

    def test_of_an_entry_that_is_not_committed_yet_are_waited_for_and_refused(self, apart):
        organization, ann, bob, cat, dan = apart

        with uncommitted(organization, [move(ann, bob, 7, reference="r")], JournalEntry):
            second = Asking(partial(post, organization, move(cat, dan, 7, reference="r")))
            wait_until(is_waiting)

        fault = second.ended().fault
        stands = JournalEntry.objects.get(reference="r")
        assert (fault.code, fault.details["journal_entry"]) == (
            "reference_reused", encode_id("je", stands.id),
        )  # fmt: skip
        assert (balance(organization, bob).posted, balance(organization, dan).posted) == (7, 0)
        assert breaches() == []

    def test_of_a_hold_that_is_not_committed_yet_are_waited_for_and_refused(self, apart):
        organization, ann, bob, cat, dan = apart
        one, other = holds_of_one_reference((ann, bob), (cat, dan))

        with uncommitted(organization, [one], Hold):
            second = Asking(partial(post, organization, other))
            wait_until(is_waiting)

        fault = second.ended().fault
        assert (fault.code, fault.details["hold"]) == ("reference_reused", encode_id("ho", one.id))
        assert [hold.id for hold in Hold.objects.all()] == [one.id]
        assert [balance(organization, id_).pending_out for id_ in (ann, cat)] == [7, 0]
        assert breaches() == []

    @pytest.mark.parametrize("turn", range(TURNS))
    def test_of_one_hold_asked_for_by_many_place_one_and_answer_it_to_all(self, apart, turn):
        organization, ann, bob, *_ = apart

        answers = race(*[partial(place, organization, ann, bob, 60, reference="r")] * 8)

        assert set(answers) == {Hold.objects.get().id}
        assert balance(organization, ann).available == 40
        assert HoldEvent.objects.count() == 1
        assert breaches() == []

    @pytest.mark.parametrize("turn", range(TURNS))
    def test_of_one_hold_that_each_places_and_captures_move_its_money_once(self, apart, turn):
        organization, ann, bob, *_ = apart

        def act():
            hold = place(organization, ann, bob, 10, reference="r")
            try:
                return hold, capture(organization, hold)
            except Refusal as refusal:
                return hold, refusal.code

        answers = race(*[act] * 8)

        hold = Hold.objects.get()
        assert {answer[0] for answer in answers} == {hold.id}
        assert sorted(answer[1] for answer in answers) == (
            ["captured"] + ["hold_already_captured"] * 7
        )
        assert (hold.status, hold.captured_minor) == ("captured", 10)
        assert balance(organization, ann).available == 90
        assert balance(organization, bob).posted == 10
        assert HoldEvent.objects.count() == 2
        assert breaches() == []

    @pytest.mark.parametrize("turn", range(TURNS))
    def test_of_a_hold_of_other_accounts_have_one_winner(self, apart, turn):
        """Only Postgres' own rule is between them: they have no account in common."""
        organization, ann, bob, cat, dan = apart
        pairs = [(ann, bob), (cat, dan)]

        answers = race(
            *[partial(place, organization, *pair, 60, reference="r") for pair in pairs] * 4
        )

        hold = Hold.objects.get()
        refused = [answer for answer in answers if isinstance(answer, Refusal)]
        assert [answer for answer in answers if answer == hold.id] == [hold.id] * 4
        assert codes(refused) == ["reference_reused"] * 4
        assert sorted(balance(organization, id_).pending_out for id_ in (ann, cat)) == [0, 60]
        assert breaches() == []

    def test_of_a_hold_that_ended_before_it_was_committed_are_waited_for(self, apart):
        """The rule of open holds has nothing against it: the one of references has."""
        organization, ann, bob, cat, dan = apart
        one, other = holds_of_one_reference((ann, bob), (cat, dan))

        with uncommitted(organization, [one, VoidHold(hold_id=one.id)], Hold):
            second = Asking(partial(post, organization, other))
            wait_until(is_waiting)

        fault = second.ended().fault
        assert (fault.code, fault.details["hold"]) == ("reference_reused", encode_id("ho", one.id))
        assert dict(Hold.objects.values_list("id", "status")) == {one.id: "voided"}
        assert [balance(organization, id_).pending_out for id_ in (ann, cat)] == [0, 0]
        assert breaches() == []


@pytest.mark.parametrize("turn", range(TURNS))
class TestReversals:
    def test_of_one_entry_by_many_have_one_winner(self, books, turn):
        organization, ann, bob = books
        fund(organization, ann, 100)
        entry = post_transfer(organization, ann, bob, 60, key="a").entry_id

        outcomes = race(*[partial(reverse, organization, entry)] * 6)

        assert codes(outcomes) == [""] + ["already_reversed"] * 5
        assert JournalEntry.objects.filter(reverses_id=entry).count() == 1
        assert (balance(organization, ann).posted, balance(organization, bob).posted) == (100, 0)
        assert breaches() == []

    def test_of_sets_that_share_entries_are_whole_or_not_at_all(self, books, turn):
        organization, ann, bob = books
        fund(organization, ann, 100)
        cat = open_account(organization, "wallets:cat:EUR")
        one, two, three = (
            post_transfer(organization, *pair, 20, key=f"{n}").entry_id
            for n, pair in enumerate([(ann, bob), (ann, cat), (bob, cat)])
        )

        outcomes = race(
            partial(reverse, organization, one, two, three),
            partial(reverse, organization, three, two),
            partial(reverse, organization, two, one, three),
        )

        [won] = [outcome for outcome in outcomes if not isinstance(outcome, Refusal)]
        assert [type(o) for o in outcomes if o is not won] == [AlreadyReversed] * 2
        assert JournalEntry.objects.exclude(reverses_id=None).count() == len(won.entry_ids)
        after = [balance(organization, id_).posted for id_ in (ann, bob, cat)]
        assert after == ([100, 0, 0] if len(won.entry_ids) == 3 else [80, 20, 0])
        assert breaches() == []


@pytest.mark.parametrize("turn", range(TURNS))
class TestFloors:
    def test_of_the_past_are_kept_by_one_of_two_that_each_fit(self, books, turn):
        """Both fit today, and each alone fits the past: together they would not."""
        organization, ann, bob = books
        fund(organization, ann, 50, at=NOW - timedelta(days=9))
        fund(organization, ann, 1_000, at=NOW - timedelta(days=1))
        early = NOW - timedelta(days=5)

        outcomes = race(
            partial(post_transfer, organization, ann, bob, 40, key="a", effective_at=early),
            # Past the group of this process: a transaction of its own beside.
            partial(post, organization, move(ann, bob, 40, effective_at=early)),
        )

        assert codes(outcomes) == ["", "later_balance_below_floor"]
        assert balance(organization, bob).posted == 40
        assert breaches() == []

    def test_are_moved_to_the_last_unit_by_two_that_take_what_there_is(self, books, turn):
        organization, ann, bob = books
        fund(organization, ann, 100)

        def most(key: str) -> int:
            done = post_transfer(organization, ann, bob, 60, key=key, up_to=True)
            return done.outcome.lines[0].amount_minor

        assert sorted(race(partial(most, "a"), partial(most, "b"))) == [40, 60]
        assert (balance(organization, ann).posted, balance(organization, bob).posted) == (0, 100)
        assert breaches() == []

    def test_raised_as_money_leaves_are_never_broken(self, books, turn):
        organization, ann, bob = books
        fund(organization, ann, 100)
        change = AccountChange(reason="kept back", sets_floor=True, min_available_minor=50)

        changed, moved = race(
            partial(
                operations.change_client_account, **asked(organization), account_id=ann,
                change=change,
            ),
            partial(post_transfer, organization, ann, bob, 60, key="a"),
        )  # fmt: skip

        if isinstance(changed, Refusal):
            assert (changed.code, changed.details["available"]) == ("floor_above_available", 40)
            assert balance(organization, ann).available == 40
        else:
            assert moved.code == "insufficient_funds"
            assert balance(organization, ann).available == 100
        assert breaches() == []

    def test_of_an_account_that_is_closed_as_money_comes_lose_nothing(self, books, turn):
        organization, ann, bob = books
        fund(organization, ann, 100)
        change = AccountChange(reason="left", status=AccountStatus.CLOSED)

        closed, moved = race(
            partial(
                operations.change_client_account, **asked(organization), account_id=bob,
                change=change,
            ),
            partial(post_transfer, organization, ann, bob, 60, key="a"),
        )  # fmt: skip

        if isinstance(closed, Refusal):
            assert closed.code == "ledger_account_not_empty"
            assert (balance(organization, bob).posted, balance(organization, bob).status) == (
                60,
                "open",
            )
        else:
            assert moved.code == "ledger_account_closed"
            assert balance(organization, bob).status == "closed"
            assert balance(organization, ann).posted == 100
        assert breaches() == []


ASKS = """
import json, sys
from functools import partial
from uuid import UUID

import django

django.setup()
from tests.ledger import test_races
from tests.support import race

test_races.keys = (f"{sys.argv[1]}-{n}" for n in range(10**6))
kinds = ["place"] * 3 + ["capture"] * 2 + ["reverse"] * 2
print("told", json.dumps("ready"), flush=True)
for line in sys.stdin:
    organization, ann, bob, hold, *entries = map(UUID, line.split())
    calls = [
        *[partial(test_races.place, organization, ann, bob, 1_000)] * 3,
        *[partial(test_races.capture, organization, hold)] * 2,
        *[partial(test_races.reverse, organization, *entries)] * 2,
    ]
    told = [[kind, getattr(outcome, "code", "")]
            for kind, outcome in zip(kinds, race(*calls), strict=True)]
    print("told", json.dumps(told), flush=True)
"""


def hear(process):
    """Return what the process tells next, past what it logs."""
    logged = []
    for line in process.stdout:
        if line.startswith("told "):
            return json.loads(line.removeprefix("told "))
        logged.append(line)
    raise AssertionError("".join(logged))


class TestProcesses:
    @pytest.mark.parametrize("turns", [TURNS, pytest.param(10 * TURNS, marks=pytest.mark.soak)])
    def test_race_for_money_a_hold_and_a_reversal_as_threads_do(self, turns):
        """Four processes of seven threads: five holds are placed, one captured, two undone once."""
        with ExitStack() as stack:
            processes = [stack.enter_context(running("-c", ASKS, f"p{n}")) for n in range(4)]
            assert [hear(process) for process in processes] == ["ready"] * 4
            for _ in range(turns):
                # All are told at once: one that still starts would come too late for a race.
                self.race_for(processes, *open_books())
        assert breaches() == []

    @staticmethod
    def race_for(processes, organization, ann, bob) -> None:
        fund(organization, ann, 5_000 + 700 + 30)
        hold = place(organization, ann, bob, 700)
        entries = [
            post_transfer(organization, ann, bob, amount, key=f"e-{amount}").entry_id
            for amount in (10, 20)
        ]
        for process in processes:
            print(organization, ann, bob, hold, *entries, file=process.stdin, flush=True)

        told = [tuple(one) for process in processes for one in hear(process)]

        assert {one: told.count(one) for one in told} == {
            ("place", ""): 5,
            ("place", "insufficient_funds"): 7,
            ("capture", ""): 1,
            ("capture", "hold_already_captured"): 7,
            ("reverse", ""): 1,
            ("reverse", "already_reversed"): 7,
        }
        view = balance(organization, ann)
        assert (view.posted, view.pending_out, view.available) == (5_030, 5_000, 30)
        assert balance(organization, bob).posted == 700
