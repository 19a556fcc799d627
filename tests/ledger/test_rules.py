"""The pure core: worked examples, and properties that hold for any commands."""

from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.core.ids import encode_id
from apps.ledger.rules import (
    BalanceState,
    CaptureHold,
    ExpireHold,
    HoldStatus,
    LaterBalances,
    Leg,
    PlaceHold,
    PostEntry,
    State,
    Transfer,
    VoidHold,
    apply,
    transfer,
)

A, B, C, BANK = (UUID(int=n) for n in range(1, 5))
NOW = datetime(2026, 11, 2, tzinfo=UTC)
_ids = iter(range(1000, 10**9))


def fresh() -> UUID:
    return UUID(int=next(_ids))


def state(**balances: int) -> State:
    """Customers A, B and C with a floor of 0, and the bank, from which their money came."""
    money = {A: balances.get("a", 0), B: balances.get("b", 0), C: balances.get("c", 0)}
    accounts = {
        id_: BalanceState(id_, "EUR", credit_normal=True, min_available_minor=0,
                          posted_credits=amount)
        for id_, amount in money.items()
    }  # fmt: skip
    accounts[BANK] = BalanceState(
        BANK, "EUR", credit_normal=False, posted_debits=sum(money.values())
    )
    return State(accounts, now=NOW)


def move(debit: UUID, credit: UUID, amount: int, **more: object) -> PostEntry:
    return transfer(
        id_=fresh(), debit_account_id=debit, credit_account_id=credit, amount_minor=amount,
        currency="EUR", **more,
    )  # fmt: skip


def codes(outcomes: list) -> list[str]:
    return [o.refusal.code if o.refusal else o.status for o in outcomes]


class TestTransfer:
    def test_moves_the_amount_and_counts_the_version(self):
        after, [outcome] = apply(state(a=100), [move(A, B, 30)])

        assert outcome.status == "posted"
        assert (after.balances[A].available, after.balances[B].available) == (70, 30)
        assert [(li.amount_minor, li.account_version, li.balance_after_minor)
                for li in outcome.lines] == [(30, 1, 70), (-30, 1, 30)]  # fmt: skip

    def test_to_the_last_unit_and_not_one_more(self):
        _, outcomes = apply(state(a=100), [move(A, B, 100), move(A, B, 1)])

        assert codes(outcomes) == ["posted", "insufficient_funds"]
        assert outcomes[1].refusal.details["available"] == 0

    def test_sees_the_effect_of_the_ones_before(self):
        _, outcomes = apply(state(a=100), [move(B, C, 50), move(A, B, 50), move(B, C, 50)])

        assert codes(outcomes) == ["insufficient_funds", "posted", "posted"]

    def test_reaches_a_credit_line_and_not_beyond(self):
        start = state()
        start.balances[A].min_available_minor = -1000

        assert codes(apply(start, [move(A, B, 1000)])[1]) == ["posted"]
        assert codes(apply(start, [move(A, B, 1001)])[1]) == ["insufficient_funds"]

    def test_money_in_reaches_an_account_below_its_floor(self):
        start = state()
        start.balances[A].posted_debits = 50

        entry = PostEntry(
            id=fresh(), legs=(Leg(BANK, 11), Leg(A, -10), Leg(B, -1)), currency="EUR", kind="x"
        )

        assert codes(apply(start, [move(BANK, A, 10), entry])[1]) == ["posted", "posted"]

    def test_a_till_pays_by_credit_to_its_last_unit_and_takes_whatever_comes_by_debit(self):
        start = state(a=100)
        start.balances[BANK].min_available_minor = 40

        _, outcomes = apply(start, [move(A, BANK, 60), move(A, BANK, 1), move(BANK, B, 1000)])

        assert codes(outcomes) == ["posted", "insufficient_funds", "posted"]
        assert outcomes[1].refusal.details["ledger_account"] == encode_id("la", BANK)

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"status": "frozen"}, "ledger_account_frozen"),
            ({"status": "closed"}, "ledger_account_closed"),
            ({"currency": "USD"}, "currency_mismatch"),
        ],
    )
    def test_is_refused_by_the_account(self, change, code):
        start = state(a=100)
        for name, value in change.items():
            setattr(start.balances[B], name, value)

        assert codes(apply(start, [move(A, B, 10)])[1]) == [code]

    def test_from_an_account_to_itself_is_refused(self):
        assert codes(apply(state(a=100), [move(A, A, 10)])[1]) == ["same_ledger_account"]

    def test_of_a_client_takes_no_reference_of_kassas_own_acts(self):
        start = state(a=100)
        start.reach_internal = False
        for id_ in (A, B):
            start.balances[id_].internal = False
        commands = [move(A, B, 1, reference=text) for text in ("payout:pat_1:settle", "payout-1")]

        holds = [hold(1, reference=text) for text in ("payout:po_1:hold", "payout-1")]

        assert codes(apply(start, commands)[1]) == ["reference_reserved", "posted"]
        assert codes(apply(start, holds)[1]) == ["reference_reserved", "held"]

    def test_more_than_the_books_can_count_is_refused(self):
        start = state()
        start.balances[B].posted_credits = 10**18 - 5

        _, outcomes = apply(start, [move(BANK, B, 6), move(BANK, B, 5)])

        assert codes(outcomes) == ["balance_too_large", "posted"]

    def test_what_is_reserved_counts_as_moved_so_a_capture_always_has_room(self):
        """On either side: the debits of whose money it is, and the credits of whom it is for."""
        start = state()
        start.balances[A].min_available_minor = None
        start.balances[A].posted_debits = start.balances[B].posted_credits = 10**18 - 100
        placed = hold(90)

        after, outcomes = apply(
            start, [placed, move(A, C, 11), move(A, C, 10), move(BANK, B, 11), move(BANK, B, 10)]
        )
        _, captured = apply(after, [capture(placed.id)])

        assert codes(outcomes) == [
            "held", "balance_too_large", "posted", "balance_too_large", "posted",
        ]  # fmt: skip
        assert codes(captured) == ["posted"]

    def test_happens_after_what_a_clock_a_little_ahead_has_posted_and_no_later(self):
        start, second = state(a=100), timedelta(seconds=1)
        start.balances[A].latest_effective_at = NOW + 4 * second
        # Beyond what clocks differ by, whatever the other account has seen.
        start.balances[B].latest_effective_at = NOW + 8 * second

        _, [outcome] = apply(start, [move(A, B, 1)])

        assert outcome.effective_at == NOW + 4 * second

    def test_to_an_account_nobody_has_is_refused(self):
        assert codes(apply(state(a=100), [move(A, fresh(), 10)])[1]) == ["unknown_ledger_account"]

    def test_of_a_client_does_not_reach_internal_accounts(self):
        start = state(a=100)
        start.reach_internal = False
        start.balances[A].internal = False

        assert codes(apply(start, [move(A, BANK, 10)])[1]) == ["ledger_account_reserved"]

    @pytest.mark.parametrize("legs", [(), (Leg(A, 5), Leg(B, -4)), (Leg(A, 0), Leg(B, 0))])
    def test_that_is_no_entry_is_a_fault(self, legs):
        with pytest.raises(ValueError, match="sums to 0"):
            PostEntry(id=fresh(), legs=legs, currency="EUR", kind="x")


class TestClosedMonth:
    def test_is_closed_from_its_first_instant_to_its_last(self):
        start, tick = state(a=100), timedelta(microseconds=1)
        begins, ends = NOW - timedelta(days=40), NOW - timedelta(days=10)
        start.closed = [(begins, ends, "2026-09")]
        instants = [begins - tick, begins, ends - tick, ends]

        _, outcomes = apply(start, [move(A, B, 1, effective_at=at) for at in instants])

        assert codes(outcomes) == ["posted", "period_closed", "period_closed", "posted"]
        assert outcomes[1].refusal.details == {"period": "2026-09"}


class TestBackDated:
    """A's balance was 50, 20 from the second day on, and is 120 since the fourth."""

    DAYS = [NOW - timedelta(days=back) for back in (4, 3, 2, 1)]

    def begun(self) -> State:
        start = state(a=120)
        start.balances[A].latest_effective_at = self.DAYS[3]
        first, second, third, last = self.DAYS
        # What is asked for on the third day meets what stood since the second.
        start.later[A] = LaterBalances([first, third, last], [20, 20, 120], [second, second, last])
        return start

    @pytest.mark.parametrize(("day", "since"), [(0, 1), (2, 2)])
    def test_is_refused_by_the_lowest_from_then_on_naming_when_it_would_be(self, day, since):
        _, [outcome] = apply(self.begun(), [move(A, B, 21, effective_at=self.DAYS[day])])

        assert outcome.refusal.code == "later_balance_below_floor"
        shown = self.DAYS[since].isoformat().replace("+00:00", "Z")
        assert (outcome.refusal.details["balance"], outcome.refusal.details["balance_at"]) == (
            -1,
            shown,
        )

    def test_goes_to_the_last_unit_and_counts_for_the_next(self):
        commands = [move(A, B, amount, effective_at=self.DAYS[2]) for amount in (20, 1)]

        after, outcomes = apply(self.begun(), commands)

        assert codes(outcomes) == ["posted", "later_balance_below_floor"]
        assert after.balances[A].available == 100

    def test_up_to_an_amount_moves_what_the_lowest_from_then_on_allows(self):
        commands = [up_to(A, B, 500, effective_at=self.DAYS[2]) for _ in range(2)]

        after, outcomes = apply(self.begun(), commands)

        assert outcomes[0].lines[0].amount_minor == 20
        assert after.balances[A].available == 100
        # Today's balance would have let a hundred go: it is the later one that allows nothing.
        told = outcomes[1].refusal
        assert (told.code, told.details["requested"]) == ("later_balance_below_floor", 100)

    def test_a_capture_is_checked_from_its_day_on_and_needs_no_more_than_its_own_hold(self):
        start = self.begun()
        start.later[A] = LaterBalances(
            [self.DAYS[2], self.DAYS[3], NOW], [20, 120, 120], [self.DAYS[1], self.DAYS[3], NOW]
        )
        whole = hold(120)
        early = capture(whole.id, 21, effective_at=self.DAYS[2])
        late = capture(whole.id, 120, effective_at=self.DAYS[3])

        after, outcomes = apply(start, [whole, early, late])

        assert codes(outcomes) == ["held", "later_balance_below_floor", "posted"]
        assert after.balances[A].available == 0

    def test_what_a_failed_chain_would_have_taken_of_it_is_there_again(self):
        early = {"effective_at": self.DAYS[2]}
        chain = [move(A, B, 20, linked=True, **early), move(A, C, 101)]

        _, outcomes = apply(self.begun(), [*chain, move(A, B, 20, **early)])

        assert codes(outcomes) == ["linked_command_failed", "insufficient_funds", "posted"]

    def test_a_hold_reserves_nothing_that_is_only_there_until_later(self):
        start = self.begun()
        start.later[A] = LaterBalances([NOW], [30], [NOW + timedelta(days=1)])

        _, outcomes = apply(start, [hold(31), hold(30)])

        assert codes(outcomes) == ["later_balance_below_floor", "held"]


class TestReference:
    def test_the_same_command_twice_in_one_batch_is_a_replay(self):
        first, second = move(A, B, 10, reference="r-1"), move(A, B, 10, reference="r-1")

        after, outcomes = apply(state(a=100), [first, second])

        assert codes(outcomes) == ["posted", "replayed"]
        assert outcomes[1].entry_id == first.id
        assert after.balances[B].available == 10

    def test_another_command_under_it_is_refused(self):
        _, outcomes = apply(
            state(a=100), [move(A, B, 10, reference="r-1"), move(A, B, 11, reference="r-1")]
        )

        assert codes(outcomes) == ["posted", "reference_reused"]

    def test_another_transfer_under_it_is_refused_whichever_of_its_terms_differs(self):
        asked = move(A, B, 10, reference="r-1")
        begun = state(a=100, b=100, c=100)
        others = [
            replace(asked, **terms)
            for terms in (
                {"amount_minor": 9}, {"debit_account_id": C}, {"credit_account_id": C},
                {"debit_account_id": B, "credit_account_id": A}, {"currency": "USD"},
            )
        ]  # fmt: skip

        after, outcomes = apply(begun, [asked, asked, *others])

        assert codes(outcomes) == ["posted", "replayed", *["reference_reused"] * len(others)]
        assert [after.balances[id_].available for id_ in (A, B, C)] == [90, 110, 100]

    def test_another_hold_under_it_is_refused_whichever_of_its_terms_differs(self):
        asked = hold(10, reference="h-1")
        begun, _ = apply(state(a=100, c=100), [asked])
        others = [
            replace(asked, **terms)
            for terms in (
                {"amount_minor": 9}, {"amount_minor": 11}, {"debit_account_id": C},
                {"credit_account_id": C}, {"currency": "USD"}, {"multi_capture": True},
                {"expires_at": NOW + timedelta(days=1)},
            )
        ]  # fmt: skip

        after, outcomes = apply(begun, [asked, *others])

        assert codes(outcomes) == ["replayed", *["reference_reused"] * len(others)]
        assert after.balances == begun.balances


class TestLinked:
    def test_a_chain_fails_as_one_and_names_the_guilty(self):
        start = state(a=100)
        chain = [move(A, B, 60, linked=True), move(A, C, 60, linked=True), move(B, C, 1)]

        after, outcomes = apply(start, [*chain, move(A, B, 100)])

        assert codes(outcomes) == [
            "linked_command_failed", "insufficient_funds", "linked_command_failed", "posted",
        ]  # fmt: skip
        assert after.balances[B].available == 100

    def test_a_reference_of_a_failed_chain_is_free_again(self):
        chain = [move(A, B, 60, reference="r", linked=True), move(A, C, 60)]

        _, outcomes = apply(state(a=100), [*chain, move(A, B, 60, reference="r")])

        assert codes(outcomes) == ["linked_command_failed", "insufficient_funds", "posted"]

    @pytest.mark.parametrize(
        ("amounts", "told"),
        [
            ([10], ["linked_chain_open"]),
            ([60, 40], ["linked_command_failed", "linked_chain_open"]),
            # What was refused before its end is what is wrong with it.
            ([60, 41, 1], ["linked_command_failed", "insufficient_funds", "linked_command_failed"]),
        ],
    )
    def test_a_chain_that_the_batch_ends_within_is_refused_and_leaves_the_others(
        self, amounts, told
    ):
        chain = [move(A, C, amount, linked=True) for amount in amounts]

        after, outcomes = apply(state(a=101), [move(A, B, 1), *chain])

        assert codes(outcomes) == ["posted", *told]
        assert [after.balances[id_].available for id_ in (A, B, C)] == [100, 1, 0]
        assert (after.balances[A].version, after.balances[C].version) == (1, 0)

    def test_a_chain_without_its_end_that_stands_already_is_told_as_it_stands(self):
        chain = [move(A, B, 60, reference=name, linked=True) for name in ("r", "s")]
        whole = [*chain, move(A, B, 1)]
        stands, _ = apply(state(a=200), whole)

        after, outcomes = apply(stands, chain)
        _, half_new = apply(stands, [chain[0], move(A, B, 60, reference="t", linked=True)])

        assert codes(outcomes) == ["replayed", "replayed"]
        assert after.balances == stands.balances
        assert codes(half_new) == ["linked_command_failed", "linked_chain_open"]

    def test_a_failed_chain_forgets_what_it_made_and_nothing_that_stood(self):
        placed, again = hold(10, linked=True), move(A, B, 60, reference="r", linked=True)
        stands, _ = apply(state(a=200), [replace(again, linked=False)])

        after, outcomes = apply(
            stands,
            [placed, again, move(A, C, 500), capture(placed.id), replace(again, linked=False)],
        )

        assert codes(outcomes) == [
            "linked_command_failed", "linked_command_failed", "insufficient_funds",
            "hold_not_found", "replayed",
        ]  # fmt: skip
        assert after.balances == stands.balances

    def test_a_capture_of_a_failed_chain_is_undone_with_its_reference(self):
        placed = hold(10)
        stands, _ = apply(state(a=100), [placed])
        chain = [capture(placed.id, reference="r", linked=True), move(C, B, 1)]

        after, outcomes = apply(stands, [*chain, capture(placed.id, reference="r")])
        undone, _ = apply(stands, chain)

        assert codes(outcomes) == ["linked_command_failed", "insufficient_funds", "posted"]
        assert (undone.balances, undone.holds) == (stands.balances, stands.holds)
        assert (after.balances[A].available, after.balances[B].available) == (90, 10)

    def test_a_reference_used_twice_in_a_failed_chain_names_only_an_entry_that_stands(self):
        def twice(reference):
            return [
                move(A, B, 60, reference=reference, linked=True),
                move(A, B, 61, reference=reference),
            ]

        stands, [posted] = apply(state(a=200), [move(A, B, 60, reference="r")])

        named = []
        for reference in ("r", "s"):
            _, outcomes = apply(stands, twice(reference))
            assert codes(outcomes) == ["linked_command_failed", "reference_reused"]
            named.append(outcomes[1].refusal.details.get("journal_entry"))

        assert named == [encode_id("je", posted.entry_id), None]


class TestUpTo:
    def most(self, start: State, amount: int, debit=A, credit=B, **more: object) -> int | str:
        """Return how much is moved, or with which code nothing is."""
        _, [outcome] = apply(start, [up_to(debit, credit, amount, **more)])
        return outcome.refusal.code if outcome.refusal else outcome.lines[0].amount_minor

    def test_moves_all_or_what_there_is_and_never_nothing(self):
        told = [self.most(state(a=held), 40) for held in (41, 40, 39, 1, 0)]

        assert told == [40, 40, 39, 1, "insufficient_funds"]

    def test_reaches_to_the_end_of_a_credit_line(self):
        start = state(a=5)
        start.balances[A].min_available_minor = -1000

        assert self.most(start, 2000) == 1005

    def test_leaves_what_is_reserved_and_what_comes_in_pending(self):
        start, _ = apply(state(a=100, b=7), [hold(60)])

        assert self.most(start, 500) == 40
        assert self.most(start, 500, debit=B, credit=C) == 7

    def test_is_bounded_by_both_accounts_where_both_pay(self):
        """A debit takes from a customer, and a credit from a till."""
        for customer, till in ((100, 30), (30, 100)):
            start = state(a=customer)
            start.balances[BANK].min_available_minor = start.balances[BANK].posted_debits - till

            assert self.most(start, 500, credit=BANK) == 30

    def test_is_replayed_under_its_reference_if_what_went_is_what_it_would_have_been(self):
        """Forty went: who asks for forty or more is told so, and who asks for less is not."""
        stands, _ = apply(state(a=40), [up_to(A, B, 60, reference="r")])

        _, outcomes = apply(stands, [up_to(A, B, amount, reference="r") for amount in (60, 40, 39)])

        assert codes(outcomes) == ["replayed", "replayed", "reference_reused"]

    def test_sees_what_those_before_it_left(self):
        after, outcomes = apply(state(a=100), [up_to(A, B, 70), up_to(A, B, 70), up_to(A, B, 70)])

        assert codes(outcomes) == ["posted", "posted", "insufficient_funds"]
        assert (after.balances[A].available, after.balances[B].available) == (0, 100)


def up_to(debit: UUID, credit: UUID, amount: int, **more: object) -> Transfer:
    return move(debit, credit, amount, up_to=True, **more)


def hold(amount: int, **more: object) -> PlaceHold:
    return PlaceHold(
        id=fresh(), debit_account_id=A, credit_account_id=B, amount_minor=amount, currency="EUR",
        **more,
    )  # fmt: skip


def capture(id_: UUID, amount: int | None = None, **more: object) -> CaptureHold:
    return CaptureHold(hold_id=id_, entry_id=fresh(), kind="capture", amount_minor=amount, **more)


class TestHold:
    def test_reserves_and_pending_in_is_not_spendable(self):
        after, outcomes = apply(state(a=5000), [hold(1000) for _ in range(6)])

        assert codes(outcomes) == ["held"] * 5 + ["insufficient_funds"]
        assert (after.balances[A].available, after.balances[B].available) == (0, 0)
        assert after.balances[B].pending_in == 5000

    def test_what_it_reserves_is_left_out_of_what_a_posting_says_is_available(self):
        """Of money that leaves by debit, and of a till's, which leaves by credit."""
        start, _ = apply(state(a=100), [hold(30)])
        out = PlaceHold(
            id=fresh(), debit_account_id=C, credit_account_id=BANK, amount_minor=7, currency="EUR"
        )
        start.balances[C].min_available_minor = None
        start, _ = apply(start, [out])

        _, [outcome] = apply(start, [move(A, BANK, 10)])

        told = [(line.posted, line.available) for line in outcome.balances]
        assert told == [(90, 60), (90, 83)]
        _, [into] = apply(start, [move(A, B, 10)])
        assert [(line.posted, line.available) for line in into.balances] == [(90, 60), (10, 10)]

    def test_a_capture_posts_its_part_and_releases_the_rest_once(self):
        placed = hold(15)

        after, outcomes = apply(
            state(a=15), [placed, capture(placed.id, 13), capture(placed.id), VoidHold(
                hold_id=placed.id)]
        )  # fmt: skip

        assert codes(outcomes) == [
            "held", "posted", "hold_already_captured", "hold_already_captured",
        ]  # fmt: skip
        assert after.balances[A].available == 2
        assert (after.balances[A].pending_out, after.balances[B].pending_in) == (0, 0)
        assert after.balances[B].posted == 13

    def test_more_than_it_reserves_is_not_captured(self):
        placed = hold(10)

        _, outcomes = apply(state(a=50), [placed, capture(placed.id, 11)])

        assert codes(outcomes) == ["held", "capture_exceeds_hold"]

    @pytest.mark.parametrize(
        ("amounts", "told", "left"),
        [
            ([6, 5, 4], ["posted", "capture_exceeds_hold", "posted"], (40, 10)),
            ([6, 0, 4], ["posted", "posted", "hold_already_captured"], (44, 6)),
            ([6, None, 1], ["posted", "posted", "hold_already_captured"], (40, 10)),
        ],
    )
    def test_of_many_captures_is_taken_until_it_is_used_up_or_nothing_is_taken(
        self, amounts, told, left
    ):
        placed = hold(10, multi_capture=True)

        after, outcomes = apply(
            state(a=50), [placed, *(capture(placed.id, amount) for amount in amounts)]
        )

        assert codes(outcomes) == ["held", *told]
        assert after.holds[placed.id].status == "captured"
        assert (after.balances[A].available, after.balances[B].available) == left
        assert (after.balances[A].pending_out, after.balances[B].pending_in) == (0, 0)

    def test_nothing_is_captured_of_one_that_is_not_there_whatever_its_reference_stands_for(self):
        _, outcomes = apply(
            state(a=50), [move(A, B, 1, reference="r"), capture(fresh(), 1, reference="r")]
        )

        assert codes(outcomes) == ["posted", "hold_not_found"]

    def test_a_capture_of_nothing_releases_all_and_posts_nothing(self):
        placed = hold(10)

        after, outcomes = apply(state(a=10), [placed, capture(placed.id, 0)])

        assert outcomes[1].lines == ()
        assert outcomes[1].entry_id is None
        assert after.balances[A].available == 10

    def test_a_void_releases_all_once(self):
        placed = hold(10)

        after, outcomes = apply(
            state(a=10), [placed, VoidHold(hold_id=placed.id), VoidHold(hold_id=placed.id)]
        )

        assert codes(outcomes) == ["held", "voided", "hold_already_voided"]
        assert after.balances[A].available == 10

    def test_the_clock_ends_it_whether_or_not_a_sweeper_ran(self):
        placed = hold(10, expires_at=NOW)
        later = hold(10, expires_at=NOW + timedelta(microseconds=1))

        _, outcomes = apply(state(a=20), [placed, later, capture(placed.id), capture(later.id)])

        assert codes(outcomes) == ["held", "held", "hold_expired", "posted"]

    def test_one_that_expired_releases_nothing_again(self):
        placed = hold(10)
        start, _ = apply(state(a=20), [placed, hold(10)])
        start.holds[placed.id].status = HoldStatus.EXPIRED

        _, outcomes = apply(start, [VoidHold(hold_id=placed.id), capture(placed.id)])

        assert codes(outcomes) == ["hold_expired", "hold_expired"]

    @pytest.mark.parametrize("frozen", [A, B])
    def test_is_captured_and_given_up_though_an_account_was_frozen_since(self, frozen):
        """Its money was promised before; nothing is promised anew."""
        captured, voided = hold(30), hold(20)
        over = hold(10, expires_at=NOW)
        start, _ = apply(state(a=100), [captured, voided, over])
        start.balances[frozen].status = "frozen"

        after, outcomes = apply(
            start,
            [hold(1), move(A, B, 1), capture(captured.id), VoidHold(hold_id=voided.id),
             ExpireHold(hold_id=over.id)],
        )  # fmt: skip

        assert codes(outcomes) == [
            "ledger_account_frozen", "ledger_account_frozen", "posted", "voided", "expired",
        ]  # fmt: skip
        assert (after.balances[A].available, after.balances[B].available) == (70, 30)
        assert (after.balances[A].pending_out, after.balances[B].pending_in) == (0, 0)

    @pytest.mark.parametrize("own", [A, B])
    def test_of_kassas_own_acts_on_either_side_is_out_of_a_clients_reach(self, own):
        placed = hold(10)
        start, _ = apply(state(a=10), [placed])
        start.reach_internal = False
        for id_ in (A, B):
            start.balances[id_].internal = id_ == own

        after, outcomes = apply(start, [capture(placed.id), VoidHold(hold_id=placed.id)])

        assert codes(outcomes) == ["ledger_account_reserved"] * 2
        assert after.balances == start.balances

    def test_no_capture_is_negative(self):
        with pytest.raises(ValueError, match="A capture posts"):
            capture(fresh(), -1)

    def test_one_nobody_placed_is_not_found(self):
        assert codes(apply(state(), [VoidHold(hold_id=fresh())])[1]) == ["hold_not_found"]


accounts = st.sampled_from([A, B, C, BANK])
transfers = st.builds(
    move, accounts, accounts, st.integers(1, 120), linked=st.booleans(),
    reference=st.sampled_from([None, None, "r-1", "r-2"]),
)  # fmt: skip
START = state(a=100, b=50)


@given(st.lists(transfers, max_size=30))
def test_no_command_makes_or_loses_money_or_breaks_a_floor(commands):
    before = deepcopy(START)

    after, outcomes = apply(START, commands)

    assert before == START
    assert len(outcomes) == len(commands)
    balances = after.balances.values()
    assert sum(b.posted_debits for b in balances) == sum(b.posted_credits for b in balances)
    assert all(b.available >= 0 for b in balances if b.min_available_minor == 0)
    assert sum(b.version for b in balances) == sum(len(o.lines) for o in outcomes)


@given(st.lists(transfers.filter(lambda t: not t.linked), max_size=20))
def test_one_by_one_equals_all_at_once(commands):
    current, singly = START, []
    for command in commands:
        current, [outcome] = apply(current, [command])
        singly.append(outcome)

    after, at_once = apply(START, commands)

    assert after.balances == current.balances
    assert codes(at_once) == codes(singly)


@given(st.lists(st.tuples(st.integers(0, 60), st.sampled_from(["capture", "void", "leave"]))))
def test_pending_is_the_sum_of_open_holds(steps):
    commands: list = []
    for amount, end in steps:
        placed = hold(amount + 1)
        commands.append(placed)
        if end == "capture":
            commands.append(capture(placed.id, amount))
        elif end == "void":
            commands.append(VoidHold(hold_id=placed.id))

    after, _ = apply(state(a=200), commands)

    still_open = sum(h.amount_minor for h in after.holds.values() if h.status == "open")
    assert after.balances[A].pending_out == after.balances[B].pending_in == still_open
    assert after.balances[A].available >= 0
