"""Undoing several entries is one act: funds are checked once, by what all of it comes to."""

from datetime import timedelta
from functools import partial

import pytest
from django.db import connection

from apps.core.errors import Refusal
from apps.core.ids import encode_id, new_id
from apps.core.invariants import breaches
from apps.core.models import AuditEvent
from apps.core.wall_clock import print_instant
from apps.ledger import operations, rules
from apps.ledger.errors import (
    AlreadyReversed,
    InsufficientFunds,
    JournalEntryNotFound,
    LaterBalanceBelowFloor,
    LedgerAccountFrozen,
    LinkedCommandFailed,
    NotReversible,
    ReversalTooLarge,
)
from apps.ledger.models import JournalEntry
from apps.ledger.operations import AccountChange, AccountSpec, MonitorTerms, TransferRequest
from apps.ledger.rules import AccountStatus, Leg, MonitorDirection, MonitorMeasure, PostEntry
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
from tests.ledger.histories import balances_at
from tests.ledger.naive import Books
from tests.ledger.rows import fingerprints
from tests.ledger.standing import Account
from tests.ledger.test_monitors import told
from tests.support import race

pytestmark = pytest.mark.django_db(transaction=True)

DAYS = [NOW - timedelta(days=9 - day) for day in range(6)]


@pytest.fixture
def books():
    organization = create_organization()
    ann, bob, cleo, dan = (
        open_account(organization, f"wallets:{name}:EUR") for name in ("ann", "bob", "cleo", "dan")
    )
    return organization, ann, bob, cleo, dan


@pytest.fixture
def passed(books):
    """100 out of ann's, 100 into it, and spent: on the whole, undoing both moves nothing there."""
    organization, ann, bob, cleo, dan = books
    fund(organization, ann, 100)
    out = post_transfer(organization, ann, bob, 100, key="1").entry_id
    fund(organization, cleo, 100)
    back = post_transfer(organization, cleo, ann, 100, key="2").entry_id
    post_transfer(organization, ann, dan, 100, key="3")
    return out, back


def undo(organization, entries, *, at="now", key="undo"):
    return operations.reverse_entries(
        organization_id=organization, entry_ids=entries, at=at, reason="", idempotency_key=key,
        actor=ACTOR, now=NOW,
    )  # fmt: skip


def preview(organization, entries, *, at="now"):
    return operations.preview_reversal(
        organization_id=organization, entry_ids=entries, at=at, now=NOW
    )


class TestASet:
    @pytest.mark.parametrize("turn", [1, -1])
    @pytest.mark.parametrize("at", ["now", "original"])
    def test_is_checked_by_what_it_comes_to_in_whatever_order(self, books, passed, turn, at):
        organization, ann, bob, cleo, dan = books
        dry = preview(organization, passed[::turn], at=at)

        result = undo(organization, passed[::turn], at=at)

        assert [balance(organization, id_).available for id_ in (ann, bob, cleo, dan)] == [
            0, 0, 100, 100,
        ]  # fmt: skip
        assert dry.balances == result.balances
        assert undo(organization, passed[::turn], at=at).entry_ids == result.entry_ids
        assert breaches() == []

    @pytest.mark.parametrize("turn", [1, -1])
    def test_that_pays_out_too_much_is_refused_with_its_net_and_moves_nothing(self, books, turn):
        organization, ann, bob, cleo, dan = books
        fund(organization, cleo, 150)
        fund(organization, ann, 40)
        entries = [
            post_transfer(organization, ann, bob, 40, key="1").entry_id,
            post_transfer(organization, cleo, ann, 100, key="2").entry_id,
        ]
        post_transfer(organization, ann, dan, 50, key="3")
        before = fingerprints("ledger_", "core_outbox", locks=False)

        with pytest.raises(InsufficientFunds) as refused:
            undo(organization, entries[::turn])
        with pytest.raises(InsufficientFunds) as dry:
            preview(organization, entries[::turn])

        # 100 go back to cleo's, and 40 come from bob's: 60 of the 50 that are there.
        assert refused.value.details == dry.value.details == {
            "ledger_account": encode_id("la", ann),
            "available": 50,
            "requested": 60,
            "min_available": 0,
        }  # fmt: skip
        assert fingerprints("ledger_", "core_outbox", locks=False) == before

    @pytest.mark.parametrize("at", ["now", "original"])
    @pytest.mark.parametrize("turn", [1, -1])
    def test_with_funding_recorded_after_what_it_covers(self, books, at, turn):
        organization, ann, bob, cleo, _ = books
        world = open_account(organization, "wallets:world:EUR", floor=None)
        post_transfer(organization, world, ann, 100, key="0", effective_at=DAYS[0])
        spent = post_transfer(organization, ann, bob, 100, key="1", effective_at=DAYS[3])
        funded = post_transfer(organization, world, ann, 100, key="2", effective_at=DAYS[1])
        post_transfer(organization, ann, cleo, 100, key="3", effective_at=DAYS[4])

        undo(organization, [spent.entry_id, funded.entry_id][::turn], at=at)

        assert [balance(organization, id_).available for id_ in (ann, bob, cleo)] == [0, 0, 100]
        assert breaches() == []

    def test_at_the_original_times_is_checked_at_each_instant(self, books):
        organization, ann, bob, cleo, _ = books
        world = open_account(organization, "wallets:world:EUR", floor=None)
        post_transfer(organization, world, cleo, 70, key="0", effective_at=DAYS[0])
        brought = post_transfer(organization, cleo, ann, 70, key="1", effective_at=DAYS[1])
        post_transfer(organization, ann, world, 50, key="2", effective_at=DAYS[2])
        post_transfer(organization, world, ann, 30, key="3", effective_at=DAYS[3])
        spent = post_transfer(organization, ann, bob, 50, key="4", effective_at=DAYS[4])
        entries = [brought.entry_id, spent.entry_id]
        post_transfer(organization, world, ann, 50, key="5", effective_at=DAYS[5])
        before = fingerprints("ledger_", "core_outbox", locks=False)

        with pytest.raises(LaterBalanceBelowFloor) as refused:
            undo(organization, entries, at="original")

        # Today it takes 20 of the 50; on the third day the 70 would have been missing.
        assert refused.value.details == {
            "ledger_account": encode_id("la", ann),
            "balance": -50,
            "balance_at": DAYS[2].isoformat().replace("+00:00", "Z"),
            "requested": 70,
            "min_available": 0,
        }
        assert fingerprints("ledger_", "core_outbox", locks=False) == before
        undo(organization, entries, at="now", key="again")
        assert balance(organization, ann).available == 30
        assert breaches() == []

    def test_names_the_entry_that_alone_cannot_be_undone(self, books, passed):
        organization, _, bob, *_ = books
        operations.change_client_account(
            organization_id=organization, account_id=bob,
            change=AccountChange(reason="asked", status=AccountStatus.FROZEN),
            idempotency_key="freeze", actor=ACTOR, now=NOW,
        )  # fmt: skip

        with pytest.raises(LedgerAccountFrozen) as refused:
            undo(organization, [passed[1], passed[0]])

        assert refused.value.details["index"] == 1

    def test_crosses_a_monitors_limit_as_one_act(self, books, passed):
        organization, ann, *_ = books
        fund(organization, ann, 120)
        low, high = (
            operations.create_monitor(
                organization_id=organization,
                terms=MonitorTerms(
                    account_id=ann, measure=MonitorMeasure.AVAILABLE, direction=direction,
                    threshold_minor=threshold,
                ),
                idempotency_key=direction, actor=ACTOR, now=NOW,
            )
            for direction, threshold in (
                (MonitorDirection.BELOW, 100), (MonitorDirection.ABOVE, 150),
            )
        )  # fmt: skip

        undo(organization, passed)

        # Entry by entry it would have been at 220, and at 20 the other way round.
        assert told(low) == told(high) == []

    @pytest.mark.parametrize("turn", range(5))
    def test_is_undone_by_one_of_many_at_once(self, books, passed, turn):
        organization, ann, *_ = books

        outcomes = race(
            *[
                partial(undo, organization, passed[:: 1 - 2 * (n % 2)], key=f"r{n}")
                for n in range(6)
            ]
        )

        refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        assert {refusal.code for refusal in refused} == {"already_reversed"}
        assert len(refused) == 5
        assert balance(organization, ann).available == 0
        assert breaches() == []


class TestABatch:
    """As many as one batch has posted are undone as one act, over all the accounts that it had."""

    SIZE = 400

    @pytest.fixture
    def paid(self, books):
        """400 transfers of 1 out of ann's, to 200 wallets by turns, as one batch posted them."""
        organization, ann, *_ = books
        fund(organization, ann, self.SIZE)
        opened = committed(operations.open_accounts)(
            organization_id=organization,
            accounts=[
                AccountSpec(f"wallets:w{n}:EUR", "liability", "EUR", 0, internal=False)
                for n in range(self.SIZE // 2)
            ],
            now=NOW,
        )
        wallets = list(opened.values())
        made = operations.post_transfers(
            organization_id=organization,
            transfers=[
                TransferRequest(
                    debit_account_id=ann, credit_account_id=wallet, amount_minor=1, currency="EUR"
                )
                for wallet in wallets * 2
            ],
            mode="atomic", idempotency_key="batch", actor=ACTOR, now=NOW,
        )  # fmt: skip
        return list(made.entry_ids), wallets

    @pytest.mark.parametrize("at", ["now", "original"])
    def test_is_undone_whole_and_a_replay_answers_the_same(self, books, paid, at):
        organization, ann, *_ = books
        entries, wallets = paid

        result = undo(organization, entries, at=at)

        assert len(set(result.entry_ids)) == self.SIZE
        undone = dict(JournalEntry.objects.filter(kind="reversal").values_list("id", "reverses_id"))
        assert [undone[id_] for id_ in result.entry_ids] == entries
        assert balance(organization, ann).available == self.SIZE
        assert {balance(organization, id_).available for id_ in wallets} == {0}
        trail = AuditEvent.objects.filter(act="ledger.reverse_entry")
        assert {(row.subject_id, row.after["reversal"]) for row in trail} == {
            (str(entry), encode_id("je", reversal)) for reversal, entry in undone.items()
        }
        assert {(row.actor_id, row.reason, row.outcome) for row in trail} == {
            (ACTOR.id, "", "done")
        }
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)
        assert undo(organization, entries, at=at).entry_ids == result.entry_ids
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before
        assert breaches() == []

    def test_of_which_one_was_undone_is_refused_whole(self, books, paid):
        organization, *_ = books
        entries, _ = paid
        [reversal] = undo(organization, entries[300:301], key="one").entry_ids
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        with pytest.raises(AlreadyReversed) as refused:
            undo(organization, entries)

        assert refused.value.details == {"reversal": encode_id("je", reversal), "index": 300}
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before

    def test_of_which_one_wallet_has_spent_is_refused_whole(self, books, paid):
        organization, ann, *_ = books
        entries, wallets = paid
        post_transfer(organization, wallets[150], ann, 1, key="spent")
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        with pytest.raises(InsufficientFunds) as refused:
            undo(organization, entries)

        assert refused.value.details["ledger_account"] == encode_id("la", wallets[150])
        assert (refused.value.details["available"], refused.value.details["requested"]) == (1, 2)
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before

    def test_with_more_postings_than_the_largest_batch_is_refused_whole(self, books, paid):
        organization, ann, *_ = books
        _, wallets = paid
        fund(organization, ann, 201 * 99)
        # A hundred postings each: all but one have as many as are undone at once.
        legs = (Leg(ann, 99), *(Leg(wallet, -1) for wallet in wallets[:99]))
        made = post(
            organization,
            *(
                PostEntry(id=new_id(), legs=legs, currency="EUR", kind="shared_out")
                for _ in range(201)
            ),
        )
        entries = [outcome.entry_id for outcome in made]
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        with pytest.raises(ReversalTooLarge) as refused:
            undo(organization, entries)
        with pytest.raises(ReversalTooLarge) as dry:
            preview(organization, entries)

        assert refused.value.details == dry.value.details == {"postings_max": 20_000}
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before
        undo(organization, entries[1:], key="fewer")
        assert balance(organization, ann).available == 200 * 99

    def test_with_one_that_has_no_postings_is_refused_whole(self, books, paid):
        organization, *_ = books
        entries, _ = paid
        bare = new_id()
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO ledger_journal_entry (id, organization_id, kind, description,"
                " effective_at, recorded_at, actor, metadata)"
                " VALUES (%s, %s, 'transfer', '', %s, %s, 'job:tests', '{}')",
                [bare, organization, NOW, NOW],
            )
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        for named in ([bare], [*entries, bare]):
            with pytest.raises(JournalEntryNotFound):
                undo(organization, named)
            with pytest.raises(JournalEntryNotFound):
                preview(organization, named)

        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before
        assert {breach.name for breach in breaches()} == {
            "ledger_entry_has_its_event",
            "ledger_entry_is_whole",
        }

    def test_is_undone_by_one_of_two_at_once(self, books, paid):
        organization, ann, *_ = books
        entries, _ = paid

        outcomes = race(
            partial(undo, organization, entries, key="first"),
            partial(undo, organization, entries[::-1], key="second"),
        )

        [refused] = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        assert refused.code == "already_reversed"
        assert JournalEntry.objects.filter(kind="reversal").count() == self.SIZE
        assert balance(organization, ann).available == self.SIZE
        assert breaches() == []


class TestASetAtItsTimes:
    """Paid in a second apart, and undone there: each later balance is checked, to the unit."""

    SIZE = 300
    TIMES = [DAYS[1] + timedelta(seconds=n) for n in range(SIZE)]

    def paid(self, organization, wallets):
        """Pay in 1, 2, 3 and so on."""
        world = open_account(organization, "wallets:world:EUR", floor=None)
        moves = [
            move(world, wallet, n, effective_at=at)
            for n, (wallet, at) in enumerate(zip(wallets, self.TIMES, strict=True), 1)
        ]
        return world, [outcome.entry_id for outcome in post(organization, *moves)]

    def spent(self, organization, world, wallets, at, own):
        """Let each spend 40, of which so many were there before."""
        for id_, before in zip(wallets, own, strict=True):
            brought = move(world, id_, before, effective_at=DAYS[0])
            post(organization, brought, move(id_, world, 40, effective_at=at))

    def test_of_one_account_leaves_what_else_was_there(self, books):
        organization, ann, *_ = books
        world, entries = self.paid(organization, [ann] * self.SIZE)
        at = self.TIMES[99] + timedelta(microseconds=1)
        self.spent(organization, world, [ann], at, [40])

        undo(organization, entries[::-1], at="original")

        assert balance(organization, ann).available == 0
        ends = [self.TIMES[0], self.TIMES[99], at, self.TIMES[-1]]
        left = [balances_at(organization, end, account_id=ann) for end in ends]
        assert [one.posted for [one] in left] == [40, 40, 0, 0]
        assert breaches() == []

    def test_of_one_account_is_refused_for_a_unit_that_was_spent(self, books):
        organization, ann, *_ = books
        world, entries = self.paid(organization, [ann] * self.SIZE)
        at = self.TIMES[99] + timedelta(microseconds=1)
        self.spent(organization, world, [ann], at, [39])
        fund(organization, ann, 1)
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        with pytest.raises(LaterBalanceBelowFloor) as refused:
            undo(organization, entries[::-1], at="original")
        with pytest.raises(LaterBalanceBelowFloor) as dry:
            preview(organization, entries, at="original")

        # Of 1 to 100, which had come by then, one unit was spent.
        assert refused.value.details == dry.value.details == {
            "ledger_account": encode_id("la", ann),
            "balance": -1,
            "balance_at": print_instant(at),
            "requested": 5_050,
            "min_available": 0,
        }  # fmt: skip
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before

    @pytest.fixture
    def wallets(self, books):
        opened = committed(operations.open_accounts)(
            organization_id=books[0],
            accounts=[
                AccountSpec(f"wallets:w{n}:EUR", "liability", "EUR", 0, internal=False)
                for n in range(self.SIZE)
            ],
            now=NOW,
        )
        return list(opened.values())

    def test_of_many_accounts_that_moved_since_leaves_what_else_was_there(self, books, wallets):
        organization, *_ = books
        world, entries = self.paid(organization, wallets)
        self.spent(organization, world, wallets, DAYS[2], [40] * self.SIZE)

        undo(organization, entries, at="original")

        assert {balance(organization, id_).available for id_ in wallets} == {0}
        for end, left in ((self.TIMES[-1], 40), (DAYS[2], 0)):
            found = balances_at(organization, end)
            assert {one.posted for one in found if one.account_id in wallets} == {left}
        assert breaches() == []

    def test_of_many_accounts_is_refused_for_a_unit_that_one_of_them_spent(self, books, wallets):
        organization, *_ = books
        world, entries = self.paid(organization, wallets)
        own = [40 - (n == 150) for n in range(self.SIZE)]
        self.spent(organization, world, wallets, DAYS[2], own)
        fund(organization, wallets[150], 1)
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        with pytest.raises(LaterBalanceBelowFloor) as refused:
            undo(organization, entries, at="original")

        assert refused.value.details == {
            "ledger_account": encode_id("la", wallets[150]),
            "balance": -1,
            "balance_at": print_instant(DAYS[2]),
            "requested": 151,
            "min_available": 0,
        }
        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before


class TestAPartOfASet:
    @pytest.fixture
    def moved(self, books):
        """Three transfers of 10 out of ann's, to three wallets."""
        organization, ann, *others = books
        fund(organization, ann, 30)
        return [
            post_transfer(organization, ann, other, 10, key=f"t{n}").entry_id
            for n, other in enumerate(others)
        ]

    def test_that_was_undone_before_refuses_the_set_and_is_named(self, books, moved):
        organization, ann, bob, cleo, dan = books
        [reversal] = undo(organization, moved[1:2], key="part").entry_ids
        before = fingerprints("ledger_", "core_outbox", "core_audit", locks=False)

        for entries, index in ((moved, 1), ([*moved[:1], reversal], 1)):
            with pytest.raises((AlreadyReversed, NotReversible)) as refused:
                undo(organization, entries, key=f"set-{len(entries)}")
            with pytest.raises(type(refused.value)) as dry:
                preview(organization, entries)
            assert refused.value.details == dry.value.details
            assert refused.value.details["index"] == index
        assert refused.type is NotReversible

        assert fingerprints("ledger_", "core_outbox", "core_audit", locks=False) == before
        undo(organization, [moved[0], moved[2]], key="rest")
        assert [balance(organization, id_).available for id_ in (ann, bob, cleo, dan)] == [
            30, 0, 0, 0,
        ]  # fmt: skip
        assert breaches() == []

    @pytest.mark.parametrize("turn", range(8))
    def test_that_two_sets_share_is_undone_by_one_of_them_with_all_of_its_own(
        self, books, moved, turn
    ):
        organization, ann, bob, cleo, dan = books
        first, second = moved[:2], moved[:0:-1]

        outcomes = race(
            partial(undo, organization, first, key="first"),
            partial(undo, organization, second, key="second"),
        )

        [refused] = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        assert refused.code == "already_reversed"
        left = {bob: 0, cleo: 0, dan: 10} if outcomes[1] is refused else {bob: 10, cleo: 0, dan: 0}
        assert {id_: balance(organization, id_).available for id_ in left} == left
        assert balance(organization, ann).available == 20
        assert JournalEntry.objects.filter(kind="reversal").count() == 2
        assert breaches() == []


class TestItsTime:
    def test_is_one_for_all_that_happen_now(self):
        """Also where another server's clock, a little ahead, has posted to one of its accounts."""
        ahead = NOW + timedelta(seconds=3)
        pairs = [(new_id(), new_id()) for _ in range(2)]
        entries = [
            PostEntry(id=new_id(), legs=(Leg(one, 5), Leg(to, -5)), currency="EUR", kind="x")
            for one, to in pairs
        ]
        plain = [Account(id_, "EUR", credit_normal=True, floor=None) for id_ in sum(pairs, ())]
        state = Books.of(plain).state(entries, NOW)
        state.balances[pairs[1][1]].latest_effective_at = ahead

        _, outcomes = rules.apply_together(state, entries)

        assert [outcome.effective_at for outcome in outcomes] == [ahead, ahead]


class TestAGuiltyEntry:
    def test_leaves_nothing_of_those_before_it(self):
        one, other, ghost = (new_id() for _ in range(3))
        entries = [
            PostEntry(id=new_id(), legs=(Leg(one, 5), Leg(to, -5)), currency="EUR", kind="x")
            for to in (other, ghost)
        ]
        plain = [Account(id_, "EUR", credit_normal=True, floor=None) for id_ in (one, other)]
        state = Books.of(plain).state(entries, NOW)

        after, [fallen, guilty] = rules.apply_together(state, entries)

        assert after is state
        assert state.balances[one].version == 0
        assert isinstance(fallen.refusal, LinkedCommandFailed)
        assert guilty.refusal.code == "unknown_ledger_account"
