"""
The real engine on Postgres beside the pure core, and both beside the rules said plainly.

What is asked is tried dry first: the answer must be the real run's, and no row may have changed.
"""

from dataclasses import replace
from datetime import timedelta
from itertools import count
from uuid import UUID

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from apps.core import context
from apps.core.errors import Refusal
from apps.core.ids import new_id
from apps.core.invariants import breaches
from apps.ledger import operations, queries
from apps.ledger.models import Hold, JournalEntry
from apps.ledger.operations import (
    AccountChange,
    CaptureRequest,
    FxRequest,
    HoldRequest,
    TransferRequest,
    _engine,
    _state,
)
from apps.ledger.operations._origin import Origin
from apps.ledger.rules import (
    AccountStatus,
    CaptureHold,
    ExpireHold,
    Leg,
    PlaceHold,
    PostEntry,
    Transfer,
    VoidHold,
)
from tests.ledger import wishes
from tests.ledger.beside import Core
from tests.ledger.factories import ACTOR, committed, create_organization, open_account
from tests.ledger.machine_acts import ActRules
from tests.ledger.machine_monitors import MonitorRules, Watched
from tests.ledger.machine_months import MonthRules, Months
from tests.ledger.naive import Result
from tests.ledger.outcomes import guilty, outcome_of, told_of
from tests.ledger.rows import fingerprints
from tests.ledger.wishes import SPECS, START, Wish, drawn
from tests.support import empty_tables

pytestmark = pytest.mark.django_db(transaction=True)

FIELDS = (
    "debit_account_id", "credit_account_id", "amount_minor", "currency", "reference",
    "effective_at", "up_to", "force", "linked",
)  # fmt: skip


SOON = timedelta(seconds=1)
HOLD_FIELDS = (
    "debit_account_id", "credit_account_id", "amount_minor", "currency", "reference", "expires_at",
    "multi_capture",
)  # fmt: skip


class EngineMachine(ActRules, MonthRules, MonitorRules, RuleBasedStateMachine):
    @initialize()
    def open_books(self):
        self.organization = create_organization()
        self.ids = [
            open_account(self.organization, code, type_=type_, floor=floor)
            for code, type_, floor in SPECS
        ]
        self.core = Core(self.ids)
        self.books = self.core.books
        self.keys = count(1)
        self.asked: list[tuple[dict, object]] = []
        self.entries: dict[UUID, tuple] = {}
        self.reversed: set[UUID] = set()
        self.months = Months()
        self.monitors: dict[UUID, Watched] = {}
        self.said: dict[UUID, list[dict[str, str]]] = {}
        # The accounts by their codes, the two entries of each, and what stands by its reference.
        self.liquidity: dict[str, UUID] = {}
        self.exchanges: dict[UUID, tuple[UUID, UUID]] = {}
        self.exchanged: dict[str, tuple[FxRequest, UUID]] = {}
        # Some money to begin with, on both normal sides.
        funding = [Wish("transfer", pair, 600, START) for pair in ((3, 0), (3, 1), (2, 3), (5, 4))]
        self.run(self.commands(funding), atomic=True)

    # --- What is asked --------------------------------------------------------------------------

    @rule(wish=drawn(wishes.transfer))
    def transfer(self, wish):
        [command] = self.commands([wish])
        expected = self.expect([command], atomic=True)
        self.try_dry([command], expected, atomic=True)
        key = str(next(self.keys))
        asked = {
            "transfer": request_of(command),
            "idempotency_key": key,
            "now": self.core.now,
            "organization_id": self.organization,
            "actor": ACTOR,
        }
        context.begin()
        answer = outcome_of(lambda: operations.post_transfer(**asked))
        assert not context.current().replayed
        if isinstance(answer, Refusal):
            self.agree([expected[0].code], [answer.code])
        else:
            self.agree(expected, [Result.of(answer.outcome)])
            self.keep([answer.outcome])
        self.asked.append((asked, answer))
        self.compare()

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def ask_again(self, data):
        """The same key: the first answer, whatever happened since; another request is refused."""
        asked, first = data.draw(st.sampled_from(self.asked[-4:]))
        before = fingerprints("ledger_", "core_outbox")
        context.begin()
        again = outcome_of(lambda: operations.post_transfer(**asked))
        assert context.current().replayed
        if isinstance(first, Refusal):
            assert (again.code, again.details) == (first.code, first.details)
        else:
            assert again.entry_id == first.entry_id
        changed = TransferRequest(
            **{
                **{name: getattr(asked["transfer"], name) for name in FIELDS},
                "amount_minor": asked["transfer"].amount_minor + 1,
            }
        )
        reused = outcome_of(lambda: operations.post_transfer(**{**asked, "transfer": changed}))
        assert reused.code == "idempotency_key_reused"
        assert fingerprints("ledger_", "core_outbox") == before
        self.compare()

    @rule(
        wanted=st.lists(drawn(wishes.transfer), min_size=2, max_size=5),
        links=st.sets(st.integers(0, 4)),
        mode=st.sampled_from(["atomic", "independent"]),
    )
    def transfers(self, wanted, links, mode):
        commands = [
            with_link(command) if place in links else command
            for place, command in enumerate(self.commands(wanted))
        ]
        atomic = mode == "atomic"
        expected = self.expect(commands, atomic=atomic)
        self.try_dry(commands, expected, atomic=atomic)
        asked = {
            "transfers": [request_of(command) for command in commands],
            "mode": mode,
            "idempotency_key": str(next(self.keys)),
            "now": self.core.now,
            "organization_id": self.organization,
            "actor": ACTOR,
        }
        answer = outcome_of(lambda: operations.post_transfers(**asked))
        again = outcome_of(lambda: operations.post_transfers(**asked))
        if isinstance(answer, Refusal):
            self.agree(guilty(expected), (answer.details.get("index"), answer.code))
            assert (again.code, again.details) == (answer.code, answer.details)
        else:
            codes = {i: result.code for i, result in enumerate(expected) if result.code}
            assert {i: refusal.code for i, refusal in answer.refusals.items()} == codes
            self.keep_entries(answer.entry_ids, expected)
            # What stood under its reference is answered as it was posted, its accounts as they are.
            stands = [self.entries[id_] if id_ else () for id_ in answer.entry_ids]
            assert answer.amounts == tuple(lines[0][1] if lines else None for lines in stands)
            last = {id_: after for result in expected for id_, after in result.after.items()}
            named = {line[0] for lines in stands for line in lines} - last.keys()
            last |= {id_: self.books._stands(self.books.accounts[id_]) for id_ in named}
            assert told_of(answer.balances) == last
            assert again.entry_ids == answer.entry_ids
        self.compare()

    @rule(wanted=drawn(wishes.several), atomic=st.booleans())
    def mixed(self, wanted, atomic):
        self.run(self.commands(wanted), atomic=atomic)

    @rule(wish=st.one_of(drawn(wishes.entry), drawn(wishes.place)))
    def entry_or_hold(self, wish):
        self.run(self.commands([wish]), atomic=False)

    @precondition(lambda self: self.books.holds)
    @rule(wish=st.one_of(drawn(wishes.capture), drawn(wishes.end)))
    def on_a_hold(self, wish):
        self.run(self.commands([wish]), atomic=False)

    def of_a_client(self, command):
        """The operations take no hold that is over as it begins, nor one of Kassa's own name."""
        if not isinstance(command, PlaceHold):
            return command
        if command.expires_at is not None:
            command = replace(command, expires_at=max(command.expires_at, self.core.now + SOON))
        if command.reference == wishes.OWN_REFERENCE:
            command = replace(command, reference=None)
        return command

    @rule(wish=st.one_of(drawn(wishes.place), drawn(wishes.capture), drawn(wishes.end)))
    def hold_of_a_client(self, wish):
        """By the operations that the API calls; the second time its key is a replay."""
        command = self.of_a_client(*self.commands([wish]))
        asked: dict = {}
        match command:
            case PlaceHold():
                act, dry = operations.place_hold, operations.preview_hold
                asked["hold"] = HoldRequest(
                    **{name: getattr(command, name) for name in HOLD_FIELDS}
                )
            case CaptureHold():
                # The operation gives a capture no reference.
                command = replace(command, reference=None)
                act, dry = operations.capture_hold, operations.preview_capture
                asked["hold_id"] = command.hold_id
                asked["capture"] = CaptureRequest(
                    amount_minor=command.amount_minor, effective_at=command.effective_at
                )
            case VoidHold():
                act, dry = operations.void_hold, operations.preview_void
                asked["hold_id"] = command.hold_id
            case _:
                self.sweep()
                return
        [expected] = self.expect([command], atomic=True)
        dried, answer, again = self.ask(act, dry, code=expected.code, **asked)
        if expected.code is None:
            after = told_of(answer.balances)
            if expected.status != "replayed":
                self.agree(expected.after, after)
            assert told_of(dried.balances) == after
            [stands] = queries.read_holds(
                organization_id=self.organization, hold_ids=[answer.hold_id]
            ).values()
            assert replace(dried.hold, id=stands.id) == stands
            # Nothing happened in between: what stands now is what stood right after.
            assert again == answer
            if isinstance(command, PlaceHold) and expected.status == "held":
                # The books know it by the id that the operation gave it.
                self.books.holds[answer.hold_id] = self.books.holds.pop(command.id)
                self.books.holds[answer.hold_id].id = answer.hold_id
            if expected.lines:
                self.entries[answer.entry_id] = tuple(line[:3] for line in expected.lines)
        self.compare()

    @precondition(lambda self: len(self.entries) > 1)
    @rule(data=st.data(), at=st.sampled_from(["now", "original"]))
    def reverse_several(self, data, at):
        """All or none, as the API asks for it."""
        known = sorted(self.entries)[-8:]
        ids = data.draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
        asked = {"organization_id": self.organization, "entry_ids": ids, "at": at,
                 "now": self.core.now}  # fmt: skip
        expected = self.expect_reversals(ids, at)
        before = fingerprints("ledger_", "core_")
        dried = outcome_of(lambda: operations.preview_reversal(**asked))
        assert fingerprints("ledger_", "core_") == before
        answer = outcome_of(
            lambda: operations.reverse_entries(
                **asked, reason="asked for", idempotency_key=str(next(self.keys)), actor=ACTOR
            )
        )
        if isinstance(answer, Refusal):
            found = (answer.details.get("index"), answer.code)
            self.agree(expected, found)
            assert (dried.code, dried.details) == (answer.code, answer.details)
        else:
            assert isinstance(expected, list), expected
            after = {id_: stands for result in expected for id_, stands in result.after.items()}
            for told in (dried, answer):
                assert told_of(told.balances) == after
            self.reversed |= set(ids)
            for entry_id, result in zip(answer.entry_ids, expected, strict=True):
                self.entries[entry_id] = tuple(line[:3] for line in result.lines)
        self.compare()

    def expect_reversals(self, ids, at):
        """The results of undoing these, or the index and code of the first refusal."""
        for index, id_ in enumerate(ids):
            if id_ in self.of_exchanges():
                return index if len(ids) > 1 else None, "part_of_fx_transfer"
        return self.expect_undone(ids, at)

    def of_exchanges(self) -> set[UUID]:
        """Both entries of each that is not undone: neither is undone for itself."""
        return {id_ for both in self.exchanges.values() for id_ in both} - self.reversed

    def expect_undone(self, ids, at):
        seen = set()
        rows = {row.id: row for row in JournalEntry.objects.filter(id__in=ids)}
        for index, id_ in enumerate(ids):
            place = index if len(ids) > 1 else None
            if id_ in self.reversed | seen:
                return place, "already_reversed"
            if rows[id_].reverses_id is not None:
                return place, "not_reversible"
            seen.add(id_)
        commands = [
            self.opposite(id_, rows[id_].effective_at if at == "original" else None) for id_ in ids
        ]
        expected = self.expect(commands, atomic=True, together=True)
        if any(result.code for result in expected):
            return guilty(expected)
        return expected

    def opposite(self, entry_id, at=None) -> PostEntry:
        legs = self.entries[entry_id]
        return PostEntry(
            id=new_id(), legs=tuple(Leg(id_, -amount, currency) for id_, amount, currency in legs),
            currency=legs[0][2], kind="reversal", effective_at=at,
        )  # fmt: skip

    @precondition(lambda self: self.entries)
    @rule(data=st.data())
    def reverse(self, data):
        entry_id = data.draw(st.sampled_from(sorted(self.entries)[-6:]))
        command = self.opposite(entry_id)
        if entry_id in self.of_exchanges():
            expected = [Result("refused", "part_of_fx_transfer")]
        elif entry_id in self.reversed:
            expected = [Result("refused", "already_reversed")]
        elif JournalEntry.objects.get(id=entry_id).reverses_id is not None:
            expected = [Result("refused", "not_reversible")]
        else:
            expected = self.expect([command], atomic=True)
        answer = outcome_of(
            lambda: committed(operations.reverse_entry)(
                organization_id=self.organization, entry_id=entry_id, reason="asked for",
                actor=ACTOR, now=self.core.now,
            )
        )  # fmt: skip
        if isinstance(answer, Refusal):
            self.agree([expected[0].code], [answer.code])
        else:
            assert expected[0].status == "posted", expected
            self.reversed.add(entry_id)
            self.entries[answer] = tuple(line[:3] for line in expected[0].lines)
        self.compare()

    # --- What happens beside --------------------------------------------------------------------

    @rule(delta=st.sampled_from(wishes.TICKS))
    def clock(self, delta):
        self.core.tick(delta)

    @rule()
    def sweep(self):
        """What the job does; the books beside it release the same ones."""
        over = self.over(self.books.accounts)
        done = operations.expire_holds(organization_id=self.organization, now=self.core.now)
        assert done == len(over)
        self.release(over)
        self.compare()

    @rule(
        place=st.sampled_from(range(len(SPECS))),
        status=st.sampled_from(["open", "open", "frozen", "closed"]),
    )
    def set_status(self, place, status):
        account = self.books.accounts[self.ids[place]]
        answer = self.change(place, status=AccountStatus(status))
        if (
            status == "closed"
            and account.status != "closed"
            and not self.in_time(account.id, self.books.is_empty)
        ):
            assert answer.code == "ledger_account_not_empty"
        else:
            assert answer is None
            self.core.set_status(place, status)
        self.compare()

    @rule(
        place=st.sampled_from(range(len(SPECS))),
        floor=st.sampled_from([None, 0, 0, -100, -500, 50]),
    )
    def set_floor(self, place, floor):
        account = self.books.accounts[self.ids[place]]
        answer = self.change(place, sets_floor=True, min_available_minor=floor)
        if floor is not None and not self.in_time(
            account.id, lambda found: self.books.keeps(found, floor)
        ):
            assert answer.code == "floor_above_available"
        else:
            assert answer is None
            account.floor = floor
        self.compare()

    def in_time(self, id_, holds_true) -> bool:
        """Say whether it is true of the account, if need be once its holds that are over end."""
        self.books.now = self.core.now
        account = self.books.accounts[id_]
        if not holds_true(account):
            self.release(self.over({id_}))
        return holds_true(account)

    def change(self, place, **what):
        return outcome_of(
            lambda: operations.change_client_account(
                organization_id=self.organization, account_id=self.ids[place],
                change=AccountChange(reason="asked for", **what),
                idempotency_key=str(next(self.keys)), actor=ACTOR, now=self.core.now,
            )
        )  # fmt: skip

    def teardown(self):
        if not hasattr(self, "organization"):
            return
        try:
            self.check_told()
            self.seal()
            assert breaches() == []
        finally:
            empty_tables()

    # --- How ------------------------------------------------------------------------------------

    def commands(self, wanted):
        holds = list(reversed(self.books.holds))
        return [
            wishes.command_of(wish, ids=self.ids, holds=holds, now=self.core.now, new=new_id())
            for wish in wanted
        ]

    def expect(self, commands, *, atomic, together=False) -> list[Result]:
        """Take the step in the books, the core beside them; what it must come out as."""
        # A hold that is over, and whose reference is asked for again, ends first of all.
        wanted = {c.reference for c in commands if isinstance(c, PlaceHold) and c.reference}
        stale = [hold for hold in self.over(self.books.accounts) if hold.reference in wanted]
        self.release(self.over(_state.accounts_of(stale)))
        while over := self.over(self.in_need_of_release(commands, together=together)):
            self.release(over)
        before = self.books.copy()
        results = self.core.run(commands, together=together)
        if atomic and any(result.code for result in results):
            self.books.__dict__.update(before.__dict__)
        elif together:
            # Of one act only what stands after all of it.
            self.see({id_: it for result in results for id_, it in result.after.items()})
        else:
            for result in results:
                self.see(result.after)
        return results

    def in_need_of_release(self, commands, *, together) -> set[UUID]:
        """
        The accounts with money reserved on which holds that are over would tell.

        Those of all commands, if one lacks money; and those that move and have a monitor.
        """
        trial = self.books.copy()
        results = (trial.apply_together if together else trial.apply)(commands, self.core.now)
        accounts = set().union(
            *(
                result.after
                for command, result in zip(commands, results, strict=True)
                if not isinstance(command, ExpireHold)
            )
        ) & {self.monitors[id_].account_id for id_ in self.active()}
        if any(lacks_money(*both) for both in zip(commands, results, strict=True)):
            accounts |= set().union(*(self.named(command, trial) for command in commands))
        return {id_ for id_ in accounts & self.books.accounts.keys() if self.pending_out(id_)}

    def named(self, command, books) -> set[UUID]:
        accounts, held = _engine.rules.touched([command])
        return accounts | _state.accounts_of(books.holds[id_] for id_ in held & books.holds.keys())

    def pending_out(self, id_) -> int:
        return self.books.pending_out(self.books.accounts[id_])

    def over(self, accounts) -> list:
        """The open holds on these accounts whose time is over."""
        return [
            hold
            for hold in self.books.holds.values()
            if hold.status == "open"
            and hold.expires_at is not None
            and hold.expires_at <= self.core.now
            and {hold.debit_account_id, hold.credit_account_id} & set(accounts)
        ]

    def release(self, holds) -> None:
        """One after the other, in the order of their ids."""
        for hold in sorted(holds, key=lambda hold: hold.id):
            hold.status = "expired"
            self.see(self.books._after(self.books._hold_legs(hold, 1)))

    def try_dry(self, commands, expected, *, atomic) -> None:
        before = fingerprints("ledger_", "core_")
        if all(isinstance(command, Transfer) for command in commands):
            answer = outcome_of(
                lambda: operations.preview_transfers(
                    organization_id=self.organization,
                    transfers=[request_of(command) for command in commands],
                    mode="atomic" if atomic else "independent",
                    now=self.core.now,
                )
            )
        else:
            _, answer = _engine.preview(
                organization_id=self.organization, commands=commands, now=self.core.now,
                reach_internal=True,
            )  # fmt: skip
        assert fingerprints("ledger_", "core_") == before
        if isinstance(answer, Refusal):
            self.agree(guilty(expected), (answer.details.get("index"), answer.code))
        else:
            self.agree(expected, [Result.of(outcome) for outcome in answer])

    def run(self, commands, *, atomic) -> None:
        expected = self.expect(commands, atomic=atomic)
        self.try_dry(commands, expected, atomic=False)
        answer = outcome_of(
            lambda: committed(_engine.run)(
                organization_id=self.organization, commands=commands, origins=[Origin.of(ACTOR)],
                now=self.core.now, atomic=atomic, reach_internal=True,
            )
        )  # fmt: skip
        if isinstance(answer, Refusal):
            self.agree(guilty(expected), (answer.details.get("index"), answer.code))
        else:
            outcomes, _ = answer
            self.agree(expected, [Result.of(outcome) for outcome in outcomes])
            self.keep(outcomes)
        self.compare()

    def keep(self, outcomes) -> None:
        for outcome in outcomes:
            if outcome.lines:
                self.entries[outcome.entry_id] = tuple(tuple(line[:3]) for line in outcome.lines)

    def keep_entries(self, entry_ids, expected) -> None:
        for id_, result in zip(entry_ids, expected, strict=True):
            if result.lines:
                self.entries[id_] = tuple(line[:3] for line in result.lines)

    @staticmethod
    def agree(expected, found) -> None:
        if expected != found:
            note(f"expected: {expected}\nfound:    {found}")
        assert found == expected

    def compare(self) -> None:
        """What stands in Postgres is what the books sum up to."""
        ids = list(self.books.accounts)
        found = queries.read_balances(organization_id=self.organization, account_ids=ids)
        assert {id_ for id_, balance in found.items() if balance.monitored} == {
            self.monitors[id_].account_id for id_ in self.active()
        }
        for balance in found.values():
            # The books beside know neither whose an account is nor who looks at it.
            balance.internal, balance.monitored = True, False
        assert found == {id_: self.books.balance(id_) for id_ in ids}
        self.compare_monitors()
        holds = Hold.objects.filter(organization_id=self.organization)
        assert {hold.id: (hold.status, hold.captured_minor) for hold in holds} == {
            hold.id: (hold.status, hold.captured_minor) for hold in self.books.holds.values()
        }


def request_of(command: Transfer) -> TransferRequest:
    return TransferRequest(**{name: getattr(command, name) for name in FIELDS})


def with_link(command: Transfer) -> Transfer:
    names = (*FIELDS, "id")
    return Transfer(**{**{name: getattr(command, name) for name in names}, "linked": True})


def lacks_money(command, result: Result) -> bool:
    if isinstance(command, Transfer) and command.up_to and result.lines:
        return result.lines[0][1] < command.amount_minor
    return result.code in {"insufficient_funds", "later_balance_below_floor"}


def drive(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        EngineMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            # On CI the parts would be the same runs.
            derandomize=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


class TestEngine:
    def test_does_what_the_core_decides_and_the_rules_say(self):
        drive(12, 30)

    @pytest.mark.soak
    @pytest.mark.timeout(600)
    @pytest.mark.parametrize("part", range(2))
    def test_does_so_for_long(self, part):
        drive(80, 60)
