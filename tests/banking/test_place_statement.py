from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.banking.formats.values import Account, Balance, Kind, Statement
from apps.banking.rules import (
    KnownStatement,
    StatementFacts,
    TwinKey,
    in_chain_order,
    pair_twins,
    place_statement,
)
from apps.core.ids import new_id

MONDAY = date(2026, 3, 2)


def facts(opening, closing, day=MONDAY, name="S", digest=b"d"):
    return StatementFacts(
        statement_id=name,
        sequence="1",
        opening_date=day,
        closing_date=day,
        opening_minor=opening,
        closing_minor=closing,
        lines_digest=digest,
    )


def known(its, chain="first", *, followed=False):
    return KnownStatement(id=new_id(), facts=its, chain=chain, is_followed=followed)


def place(new, *others, repeated=(), contained=()):
    return place_statement(new, others, repeated=repeated, contained=contained)


class TestAStatement:
    def test_is_the_first_where_there_is_none(self):
        placed = place(facts(5, 9))

        assert (placed.chain, placed.base_minor) == ("first", 5)

    def test_follows_what_ends_where_it_begins(self):
        before = known(facts(0, 5))

        placed = place(facts(5, 9, MONDAY + timedelta(1), "T"), before)

        assert (placed.chain, placed.previous) == ("follows", before.id)

    def test_follows_the_latest_that_nobody_follows(self):
        early = known(facts(0, 5), followed=True)
        late = known(facts(5, 5, MONDAY + timedelta(1), "T"), chain="follows")

        placed = place(facts(5, 9, MONDAY + timedelta(2), "U"), early, late)

        assert placed.previous == late.id

    def test_is_known_by_all_it_says(self):
        before = known(facts(0, 5))

        assert place(facts(0, 5), before).known == before.id
        assert place(facts(0, 5, digest=b"other"), before).refusal == "statement_changed"
        assert place(facts(0, 5, MONDAY + timedelta(365)), before).chain == "gap"

    def test_older_than_the_first_is_refused(self):
        before = known(facts(5, 9))

        assert place(facts(0, 5, MONDAY - timedelta(1), "R"), before).refusal == (
            "before_first_statement"
        )

    def test_closes_the_gap_it_fits_into(self):
        first, later = known(facts(0, 5)), known(facts(9, 7, MONDAY + timedelta(2), "U"), "gap")

        placed = place(facts(5, 9, MONDAY + timedelta(1), "T"), first, later)

        assert (placed.previous, placed.closes_gap_of) == (first.id, later.id)

    def test_overlaps_where_dates_meet_and_lines_repeat(self):
        morning = known(facts(0, 5))

        placed = place(
            facts(0, 9, name="DAY"), morning, repeated={morning.id}, contained={morning.id}
        )

        assert (placed.chain, placed.base_minor) == ("overlaps", 5)

    def test_holding_all_of_one_that_moved_nothing_overlaps_it(self):
        still = known(facts(5, 5))
        whole = facts(5, 9, name="DAY")

        assert place(whole, still, repeated={still.id}, contained={still.id}).chain == "overlaps"
        assert place(whole, still).chain == "follows"


def statement(position, opening, closing, day=MONDAY):
    return Statement(
        kind=Kind.STATEMENT,
        position=position,
        statement_id=str(position),
        account=Account(identification="A", currency="EUR"),
        balances=(
            Balance(code="OPBD", amount_minor=opening, currency="EUR", date=day),
            Balance(code="CLBD", amount_minor=closing, currency="EUR", date=day),
        ),
    )


@given(st.permutations(range(5)))
def test_a_chain_comes_out_in_order_however_it_stands_in_the_file(order):
    balances = [0, 10, 7, 22, 3, 40]
    chain = [(balances[n], balances[n + 1]) for n in range(5)]
    shuffled = [statement(at, *chain[n]) for at, n in enumerate(order, start=1)]

    ordered = in_chain_order(shuffled)

    assert [one.opening.amount_minor for one in ordered] == balances[:5]


class TestTwins:
    KEY = TwinKey(account_servicer_ref="R", amount_minor=5, currency="EUR")

    @pytest.mark.parametrize(
        ("one", "other", "are_twins"),
        [
            (MONDAY, MONDAY, True),
            (MONDAY, MONDAY + timedelta(1), True),
            (MONDAY, MONDAY + timedelta(2), False),
            (MONDAY + timedelta(4), MONDAY + timedelta(7), True),
            (MONDAY, MONDAY + timedelta(365), False),
        ],
    )
    def test_are_at_most_one_open_day_apart(self, one, other, are_twins):
        pairs = pair_twins([("new", self.KEY, one)], [("old", self.KEY, other)])

        assert bool(pairs) == are_twins

    def test_are_paired_in_order_and_once(self):
        new = [("a", self.KEY, MONDAY), ("b", self.KEY, MONDAY), ("c", self.KEY, MONDAY)]
        old = [("x", self.KEY, MONDAY), ("y", self.KEY, MONDAY)]

        assert pair_twins(new, old) == [("a", "x"), ("b", "y")]

    def test_differ_in_nothing_of_their_key(self):
        other = replace(self.KEY, amount_minor=6)

        assert pair_twins([("new", self.KEY, MONDAY)], [("old", other, MONDAY)]) == []
