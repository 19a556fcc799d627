"""The pure core: references, linked chains, and amounts up to what there is."""

from dataclasses import replace
from datetime import timedelta

import pytest

from apps.core.ids import encode_id
from apps.ledger.rules import (
    State,
    VoidHold,
    apply,
)
from tests.ledger.pure import BANK, NOW, A, B, C, capture, codes, hold, move, state, up_to

# A reference of Kassa's own acts.
OWN = "payout:po_1:hold"


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

    def test_of_a_client_names_a_hold_that_ended_and_one_of_kassas_own_another_hold(self):
        for reference, status, available in (("h-1", "replayed", 93), (OWN, "held", 83)):
            placed, again = hold(10, reference=reference), hold(10, reference=reference)

            after, outcomes = apply(state(a=100), [placed, capture(placed.id, 7), again])

            assert codes(outcomes) == ["held", "posted", status]
            assert after.balances[A].available == available
            named = placed if status == "replayed" else again
            assert outcomes[-1].hold == after.holds[named.id]
            assert (again.id in after.holds) is (status == "held")

    def test_of_a_client_refuses_other_terms_after_the_hold_has_ended(self):
        placed, other = hold(10, reference="h-1"), hold(9, reference="h-1")
        begun, _ = apply(state(a=100), [placed, VoidHold(hold_id=placed.id)])

        after, outcomes = apply(begun, [other, placed])

        assert codes(outcomes) == ["reference_reused", "replayed"]
        assert outcomes[0].refusal.details == {"hold": encode_id("ho", placed.id)}
        assert outcomes[1].hold.status == "voided"
        assert (after.balances, after.holds) == (begun.balances, begun.holds)

    def test_of_a_hold_that_a_failed_chain_placed_and_ended_is_free_again(self):
        placed = hold(10, reference="h-1", linked=True)
        chain = [placed, VoidHold(hold_id=placed.id, linked=True), move(A, B, 101)]
        again = hold(11, reference="h-1")

        after, outcomes = apply(state(a=100), [*chain, again])

        assert codes(outcomes)[2:] == ["insufficient_funds", "held"]
        assert list(after.holds) == [again.id]
        assert after.balances[A].available == 89

    def test_of_a_hold_that_a_failed_chain_ended_still_names_it(self):
        placed = hold(10, reference="h-1")
        begun, _ = apply(state(a=100), [placed])
        chain = [VoidHold(hold_id=placed.id, linked=True), move(A, B, 101)]

        after, outcomes = apply(begun, [*chain, placed])

        assert codes(outcomes) == ["linked_command_failed", "insufficient_funds", "replayed"]
        assert outcomes[2].hold.status == "open"
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
