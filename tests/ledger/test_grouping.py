"""Group commit: what threads ask for at once is one transaction, and each has its own answer."""

from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from threading import current_thread

import pytest
from django.db import IntegrityError, OperationalError, connection

from apps.core import transactions
from apps.core.idempotency import IdempotencyKeyReused, RequestInProgress
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.core.models import IdempotencyKey, OutboxEvent
from apps.ledger import operations
from apps.ledger.errors import InsufficientFunds
from apps.ledger.models import JournalEntry
from apps.ledger.operations import TransferRequest, _grouping, _plain
from tests.core.wire import wired
from tests.ledger.factories import (
    ACTOR,
    NOW,
    balance,
    create_organization,
    fund,
    open_account,
    post_transfer,
)
from tests.ledger.tampering import corrupt
from tests.ledger.threads import Asking, gather, held, is_others_open, is_waiting, sql
from tests.support import kill_hard, race, running, wait_until

pytestmark = pytest.mark.django_db(transaction=True)

MANY = 64


@pytest.fixture(params=["plain", "engine"])
def books(request, monkeypatch):
    """With and without the short way of what is plain: a group is answered alike on both."""
    if request.param == "engine":
        monkeypatch.setattr(_plain, "_may_be_plain", lambda _command: False)
    organization = create_organization()
    ann = open_account(organization, "wallets:ann:EUR")
    bob = open_account(organization, "wallets:bob:EUR")
    cy = open_account(organization, "wallets:cy:EUR")
    for account in (ann, cy):
        fund(organization, account, 1000)
    return organization, ann, bob, cy


def transactions_of(organization) -> int:
    """In how many transactions the organisation's transfers were written."""
    [[count]] = sql(
        "SELECT COUNT(DISTINCT xmin::text) FROM ledger_journal_entry"
        " WHERE organization_id = %s AND kind = 'transfer'",
        organization,
    )
    return count


class TestMany:
    def test_that_gather_while_one_writes_are_one_transaction(self, books):
        organization, ann, bob, cy = books
        before = transactions_of(organization)

        asked = gather(
            organization,
            ann,
            partial(post_transfer, organization, ann, bob, 1, key="first"),
            *(
                partial(post_transfer, organization, (ann, cy)[n % 2], bob, 1, key=f"k-{n}")
                for n in range(MANY)
            ),
        )

        assert [one.fault for one in asked] == [None] * (MANY + 1)
        assert len({one.answer.entry_id for one in asked}) == MANY + 1
        assert not any(one.replayed for one in asked)
        assert transactions_of(organization) == before + 2
        assert balance(organization, bob).available == MANY + 1
        # Each with the balance right after it, in the order they came.
        seen = [after.posted for one in asked for after in one.answer.outcome.balances
                if after.id == bob]  # fmt: skip
        assert seen == list(range(1, MANY + 2))
        entries = JournalEntry.objects.in_bulk([one.answer.entry_id for one in asked])
        assert [one.answer.recorded_at for one in asked] == [
            entries[one.answer.entry_id].recorded_at for one in asked
        ]
        assert OutboxEvent.objects.filter(name="ledger.journal_entry.posted").count() == MANY + 3
        assert IdempotencyKey.objects.count() == MANY + 1
        assert breaches() == []

    def test_that_have_no_business_time_of_their_own_get_the_latest_of_them(self, books):
        organization, ann, bob, _ = books

        def ask(seconds):
            return operations.post_transfer(
                organization_id=organization,
                transfer=TransferRequest(
                    debit_account_id=ann, credit_account_id=bob, amount_minor=1, currency="EUR"
                ),
                idempotency_key=f"k-{seconds}",
                actor=ACTOR,
                now=NOW + timedelta(seconds=seconds),
            )

        first, *group = gather(
            organization, ann, partial(ask, 0), *[partial(ask, seconds) for seconds in (1, 3, 2)]
        )

        assert first.answer.outcome.effective_at == NOW
        assert {one.answer.outcome.effective_at - NOW for one in group} == {timedelta(seconds=3)}

    def test_that_wait_keep_no_connection_from_the_one_that_writes(self, books, monkeypatch):
        organization, ann, bob, cy = books
        gave_back = []
        monkeypatch.setattr(
            transactions, "release_connection", lambda: gave_back.append(current_thread())
        )

        writer, *waiting = gather(
            organization,
            ann,
            *(
                partial(post_transfer, organization, payer, bob, 1, key=f"k-{n}")
                for n, payer in enumerate((ann, cy, cy))
            ),
        )

        assert [one.fault for one in (writer, *waiting)] == [None] * 3
        assert sorted(map(id, gave_back)) == sorted(map(id, waiting))

    @pytest.mark.parametrize("turn", range(3))
    def test_at_once_are_all_posted(self, books, turn):
        organization, ann, bob, cy = books

        answers = race(
            *(
                partial(post_transfer, organization, *pair, 1, key=f"{turn}-{n}")
                for n, pair in enumerate([(ann, bob), (cy, bob), (ann, cy), (cy, ann)] * 10)
            )
        )

        assert len({answer.entry_id for answer in answers}) == 40
        assert [balance(organization, id_).available for id_ in (ann, bob, cy)] == [990, 20, 990]
        assert _grouping._queues == {}
        assert breaches() == []


class TestOneKey:
    def test_of_many_threads_is_posted_once_and_replayed_to_the_rest(self, books):
        organization, ann, bob, _ = books
        same = partial(post_transfer, organization, ann, bob, 5, key="same")

        asked = gather(
            organization, ann, partial(post_transfer, organization, ann, bob, 1, key="first"),
            *[same] * 12,
        )  # fmt: skip

        assert [one.fault for one in asked] == [None] * 13
        assert len({one.answer.entry_id for one in asked[1:]}) == 1
        assert [one.replayed for one in asked[1:]] == [False, *[True] * 11]
        assert balance(organization, bob).available == 6

    def test_for_two_requests_in_one_group_is_refused_to_the_second(self, books):
        organization, ann, bob, _ = books

        _, first, second = gather(
            organization, ann, partial(post_transfer, organization, ann, bob, 1, key="first"),
            partial(post_transfer, organization, ann, bob, 5, key="same"),
            partial(post_transfer, organization, ann, bob, 6, key="same"),
        )  # fmt: skip

        assert first.fault is None
        assert isinstance(second.fault, IdempotencyKeyReused)
        assert not second.replayed
        assert balance(organization, bob).available == 6

    def test_that_stood_for_another_request_before_is_refused_and_is_no_replay(self, books):
        organization, ann, bob, _ = books
        post_transfer(organization, ann, bob, 5, key="same")

        _, reused, replay = gather(
            organization, ann, partial(post_transfer, organization, ann, bob, 1, key="first"),
            partial(post_transfer, organization, ann, bob, 6, key="same"),
            partial(post_transfer, organization, ann, bob, 1, key="first"),
        )  # fmt: skip

        assert isinstance(reused.fault, IdempotencyKeyReused)
        assert (reused.replayed, replay.replayed) == (False, True)
        assert balance(organization, bob).available == 6

    def test_that_was_refused_in_the_group_is_refused_to_all_of_it(self, books):
        organization, ann, bob, _ = books
        same = partial(post_transfer, organization, ann, bob, 1000, key="same")

        _, *asked = gather(
            organization, ann, partial(post_transfer, organization, ann, bob, 1, key="first"),
            *[same] * 3,
        )  # fmt: skip

        assert {type(one.fault) for one in asked} == {InsufficientFunds}
        assert [one.replayed for one in asked] == [False, True, True]
        assert IdempotencyKey.objects.get(key="same").refusal_code == "insufficient_funds"


class TestOneAmongMany:
    def others(self, books, count=8):
        organization, _, bob, cy = books
        return [
            partial(post_transfer, organization, cy, bob, 1, key=f"k-{n}") for n in range(count)
        ]

    def test_refused_leaves_the_others_alone_and_keeps_its_answer(self, books):
        organization, ann, bob, _ = books
        others = self.others(books)
        poor = partial(post_transfer, organization, bob, ann, 10_000, key="poor")

        asked = gather(
            organization, ann, partial(post_transfer, organization, ann, bob, 1, key="first"),
            *others[:4], poor, *others[4:],
        )  # fmt: skip

        assert [type(one.fault) for one in asked if one.fault] == [InsufficientFunds]
        assert balance(organization, bob).available == 9
        stored = IdempotencyKey.objects.get(key="poor")
        assert stored.refusal_code == "insufficient_funds"
        with pytest.raises(InsufficientFunds) as again:
            poor()
        assert again.value.details == asked[5].fault.details
        assert breaches() == []

    def test_that_postgres_refuses_is_the_only_one_to_fail(self, books):
        organization, ann, bob, _ = books
        # Its next posting will have the version of the one before: a fault, and no refusal.
        poisoned = open_account(organization, "wallets:poisoned:EUR")
        fund(organization, poisoned, 10)
        corrupt("UPDATE ledger_balance SET version = version - 1 WHERE id = %s", poisoned)
        others = self.others(books)
        poison = partial(post_transfer, organization, poisoned, bob, 1, key="poison")

        asked = gather(
            organization, ann, partial(post_transfer, organization, ann, bob, 1, key="first"),
            *others[:4], poison, *others[4:],
        )  # fmt: skip

        assert [type(one.fault) for one in asked if one.fault] == [IntegrityError]
        assert isinstance(asked[5].fault, IntegrityError)
        assert balance(organization, bob).available == 9
        assert not IdempotencyKey.objects.filter(key="poison").exists()
        corrupt("UPDATE ledger_balance SET version = version + 1 WHERE id = %s", poisoned)
        poison()
        assert balance(organization, bob).available == 10
        assert breaches() == []

    def test_that_is_a_replay_waits_for_no_account(self, books):
        """Its key stands already, alone or beside new ones; what it names is locked for long."""
        organization, ann, bob, cy = books
        replay = partial(post_transfer, organization, cy, bob, 1, key="once")
        first = replay()
        fresh = partial(post_transfer, organization, ann, bob, 1, key="fresh")

        with held(cy):
            alone = Asking(replay).ended()
            beside = gather(
                organization, ann, partial(post_transfer, organization, ann, bob, 1, key="first"),
                replay, fresh,
            )  # fmt: skip

        assert [one.fault for one in (alone, *beside)] == [None] * 4
        assert alone.replayed
        assert beside[1].replayed
        assert alone.answer.entry_id == beside[1].answer.entry_id == first.entry_id
        assert not beside[2].replayed
        assert breaches() == []

    def test_whose_connection_the_server_ended_are_answered_each_for_itself(self, books):
        """It said why, so it is there: one of them may be to blame."""
        organization, ann, bob, cy = books

        with held(ann) as let_go:
            with held(cy):
                leader = Asking(partial(post_transfer, organization, cy, bob, 1, key="first"))
                wait_until(is_waiting)
                asking = []
                for number in range(1, 4):
                    call = partial(post_transfer, organization, ann, bob, 1, key=f"k-{number}")
                    asking.append(Asking(call))
                    wait_until(lambda number=number: len(_grouping._queues[organization]) == number)
            leader.ended()
            # Now the three are one group, and wait for the account.
            wait_until(is_waiting)
            [[was_there]] = sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            let_go()
        answered = [one.ended() for one in (leader, *asking)]

        assert was_there
        assert [one.fault for one in answered] == [None] * 4
        assert balance(organization, bob).available == 4
        assert breaches() == []

    def test_whose_account_is_locked_too_long_is_the_only_one_to_fail(self, books):
        organization, ann, bob, _ = books
        locked = open_account(organization, "wallets:locked:EUR")
        fund(organization, locked, 10)
        others = self.others(books, 4)
        late = partial(post_transfer, organization, locked, bob, 1, key="late")

        with held(locked):
            asked = gather(
                organization, ann, partial(post_transfer, organization, ann, bob, 1, key="first"),
                *others[:2], late, *others[2:], lock_timeout="300ms",
            )  # fmt: skip

        assert isinstance(asked[3].fault, OperationalError)
        assert transactions.sqlstate(asked[3].fault) == "55P03"
        assert [one.fault for one in asked if one is not asked[3]] == [None] * 5
        assert not IdempotencyKey.objects.filter(key="late").exists()
        assert late().outcome.status == "posted"
        assert balance(organization, bob).available == 6
        assert breaches() == []

    def test_of_whom_each_names_a_locked_account_of_its_own_wait_a_few_times_in_all(
        self, books, monkeypatch
    ):
        # Nobody once more: that is tried for itself.
        monkeypatch.setattr(_grouping, "_answer_late", lambda *_, **__: None)
        organization, ann, bob, _ = books
        locked, others = (
            [open_account(organization, f"wallets:{name}{n}:EUR") for n in range(6)]
            for name in ("locked", "other")
        )
        for account in locked:
            fund(organization, account, 10)
        late = [
            partial(post_transfer, organization, debit, credit, 1, key=f"late{n}")
            for n, (debit, credit) in enumerate(zip(locked, others, strict=True))
        ]

        with ExitStack() as stack:
            for account in locked:
                stack.enter_context(held(account))
            asked = gather(
                organization, ann, partial(post_transfer, organization, ann, bob, 1, key="first"),
                *late, lock_timeout="300ms",
            )[1:]  # fmt: skip

        assert {transactions.sqlstate(one.fault) for one in asked} == {"55P03"}
        # Three waited, and the last of them says it to the rest.
        assert len({id(one.fault) for one in asked}) == _grouping._WAITS_MAX
        assert not IdempotencyKey.objects.filter(key__startswith="late").exists()
        assert [call().outcome.status for call in late] == ["posted"] * 6
        assert breaches() == []

    def test_whose_keys_are_held_wait_a_few_times_in_all(self, books):
        """As those of a group do whose COMMIT was sent and not answered."""
        organization, ann, bob, cy = books
        late = [partial(post_transfer, organization, cy, bob, 1, key=f"late{n}") for n in range(6)]
        other = connection.copy()
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute(
                "INSERT INTO core_idempotency_key (organization_id, key, operation, fingerprint,"
                " prefix, resource_id, created_at)"
                " SELECT %s, 'late' || n, 'x', '', '', %s, now() FROM generate_series(0, 5) n",
                [organization, new_id()],
            )
        try:
            asked = gather(
                organization, ann, partial(post_transfer, organization, ann, bob, 1, key="first"),
                *late, lock_timeout="300ms",
            )[1:]  # fmt: skip
        finally:
            other.rollback()
            other.close()

        waited = [one.fault for one in asked if isinstance(one.fault, RequestInProgress)]
        assert len(waited) == _grouping._WAITS_MAX
        assert {type(one.fault) for one in asked} == {RequestInProgress, _grouping._Crowded}
        assert [call().outcome.status for call in late] == ["posted"] * 6
        assert breaches() == []


ASKS_IN_THREADS = """
import sys, threading
from functools import partial
from uuid import UUID

import django

django.setup()
from tests.ledger.factories import post_transfer
from tests.ledger.threads import Asking

organization, debit, credit = map(UUID, sys.argv[1:4])
asked = [
    Asking(partial(post_transfer, organization, debit, credit, 1, key=f"k-{n}"))
    for n in range(8)
]
for one in asked:
    one.join()
"""


class TestKilledProcess:
    def test_leaves_nothing_half_done_and_its_keys_free(self, books):
        organization, ann, bob, _ = books
        ids = map(str, (organization, ann, bob))

        with running("-c", ASKS_IN_THREADS, *ids) as process, held(ann):
            wait_until(is_waiting)
            kill_hard(process)
        wait_until(lambda: not is_others_open())

        assert JournalEntry.objects.filter(kind="transfer").count() == 2
        assert not IdempotencyKey.objects.exists()
        for n in range(8):
            post_transfer(organization, ann, bob, 1, key=f"k-{n}")
        assert balance(organization, bob).available == 8
        assert breaches() == []


class TestOrganizations:
    def test_do_not_wait_for_each_other(self, books):
        organization, ann, bob, _ = books
        other = create_organization("Other")
        one, two = (open_account(other, f"wallets:{n}:EUR") for n in "xy")
        fund(other, one, 10)

        with held(ann):
            waits = Asking(partial(post_transfer, organization, ann, bob, 1, key="k"))
            wait_until(is_waiting)
            post_transfer(other, one, two, 10, key="k")
            assert balance(other, two).available == 10
            assert waits.is_alive()

        assert waits.ended().fault is None
        assert balance(organization, bob).available == 1


class TestInsideATransaction:
    def test_is_refused_and_moves_nothing(self, books):
        organization, ann, bob, _ = books

        @transactions.outermost
        def larger():
            post_transfer(organization, ann, bob, 1, key="k")

        with pytest.raises(RuntimeError, match="not called inside a transaction"):
            larger()

        assert balance(organization, bob).available == 0
        assert _grouping._queues == {}


class TestLostCommit:
    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_of_a_group_is_one_effect_for_each_of_it(self, books, moment):
        organization, ann, bob, cy = books
        calls = [partial(post_transfer, organization, cy, bob, 1, key=f"k-{n}") for n in range(6)]
        with held(ann) as let_go:
            leader = Asking(partial(post_transfer, organization, ann, bob, 1, key="first"))
            wait_until(is_waiting)
            with wired() as wire:
                wire.cuts = [moment]
                # Who leads these connects by the wire as it begins to write.
                asking = [Asking(call, lock_timeout="") for call in calls]
                wait_until(lambda: len(_grouping._queues[organization]) == 6)
                let_go()
                done = [one.ended() for one in (leader, *asking)]

        assert wire.cuts == []
        assert [one.fault for one in done] == [None] * 7
        assert len({one.answer.entry_id for one in done}) == 7
        # What was committed is found by its key; what never arrived is posted again.
        assert [one.replayed for one in done[1:]] == [moment == "after"] * 6
        assert balance(organization, bob).available == 7
        assert JournalEntry.objects.filter(kind="transfer").count() == 2 + 7
        assert breaches() == []
