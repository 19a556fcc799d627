"""`queries.later_balances` against sums over every posting, on histories of any shape."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.ledger import queries
from tests.ledger.factories import create_organization, move, open_account, post
from tests.ledger.histories import Move, write_history
from tests.ledger.standing import later_balances
from tests.support import examples

pytestmark = pytest.mark.django_db

START = datetime(2026, 1, 20, 8, tzinfo=UTC)
# Few instants, so that many are equal; a tick before and after some of them.
INSTANTS = [
    START + timedelta(hours=hours, microseconds=ticks)
    for hours in (-9000, -1, 0, 1, 2, 24, 700, 9000)
    for ticks in (-1, 0, 1)
]
ACCOUNTS = 4
PAIRS = [(a, b) for a in range(ACCOUNTS) for b in range(ACCOUNTS) if a != b]
# When one is recorded: long before or after it happened, or as near as the two are told apart by.
RECORDED = [
    at + timedelta(minutes=minutes) for at in INSTANTS for minutes in (-1, 0, 1, 59, 60, 61, 62)
] + [START + timedelta(days=900)]
# By how much the server's clock may step back.
STEP_BACK = timedelta(hours=1) - timedelta(microseconds=1)
MOVES = st.lists(
    st.tuples(
        st.sampled_from(PAIRS), st.integers(1, 100), st.sampled_from(INSTANTS),
        st.sampled_from(RECORDED), st.sampled_from([timedelta(0), STEP_BACK]),
    ),
    max_size=30,
)  # fmt: skip
# What Postgres may not do: it then joins as it likes, by hashes, by loops.
PLANS = [(), ("nestloop", "mergejoin"), ("hashjoin", "mergejoin")]
ASKED = st.dictionaries(
    st.integers(0, ACCOUNTS - 1),
    st.lists(st.sampled_from(INSTANTS), min_size=1, max_size=6, unique=True).map(sorted),
)


class TestLaterBalances:
    @settings(
        max_examples=examples(80), suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(moves=MOVES, asked=ASKED)
    def test_are_the_lowest_that_the_postings_sum_up_to(self, moves, asked):
        organization = create_organization()
        # Both normal sides, on both sides of a transfer.
        ids = [
            open_account(organization, f"wallets:{n}:EUR", type_=type_, floor=None)
            for n, type_ in enumerate(["liability", "asset", "income", "expense"])
        ]
        history = [
            Move(ids[debit], ids[credit], amount, at, recorded_at - back)
            for (debit, credit), amount, at, recorded_at, back in sorted(moves, key=lambda m: m[3])
        ]
        write_history(organization, history)
        balances = queries.read_balances(organization_id=organization, account_ids=ids)
        instants = {ids[place]: ats for place, ats in asked.items()}

        found = queries.later_balances(
            organization_id=organization, balances=balances, instants=instants
        )

        assert found.keys() == instants.keys()
        for id_, later in found.items():
            side = -1 if balances[id_].credit_normal else 1
            told = [
                (move.effective_at, side * (move.amount if move.debit == id_ else -move.amount))
                for move in history
                if id_ in {move.debit, move.credit}
            ]
            plain = later_balances(told, instants[id_])
            assert (later.instants, later.lows) == (plain.instants, plain.lows)
            # And from when on it stood: one of the times at which it did.
            for (at, until), low, low_at in zip(
                pairwise([*later.instants, None]), later.lows, later.lows_at, strict=True
            ):
                assert at <= low_at
                assert until is None or low_at < until
                assert sum(amount for when, amount in told if when <= low_at) == low

    def test_of_an_account_that_never_moved_are_nothing(self):
        organization = create_organization()
        ann = open_account(organization, "wallets:ann:EUR")
        balances = queries.read_balances(organization_id=organization, account_ids=[ann])

        found = queries.later_balances(
            organization_id=organization, balances=balances, instants={ann: [START]}
        )

        assert (found[ann].lows, found[ann].lows_at) == ([0], [START])

    def test_know_what_was_recorded_before_the_clock_stepped_back(self):
        """As early, and dated as far ahead, as what is found by its version may be."""
        organization = create_organization()
        ann, bob = (open_account(organization, f"wallets:{n}:EUR", floor=None) for n in "ab")
        tick = timedelta(microseconds=1)
        dated = START + tick
        recorded = [dated - timedelta(minutes=1)]
        recorded += [recorded[0] - timedelta(hours=1) + tick, START - timedelta(minutes=1)]
        # The one in the middle is where halving looks first.
        history = [Move(ann, bob, 1, at, when) for at, when in zip(
            (dated, recorded[1], recorded[2]), recorded, strict=True
        )]  # fmt: skip
        write_history(organization, history)
        balances = queries.read_balances(organization_id=organization, account_ids=[ann])

        found = queries.later_balances(
            organization_id=organization, balances=balances, instants={ann: [START]}
        )

        assert (found[ann].lows, found[ann].lows_at) == ([-3], [dated])

    @pytest.mark.parametrize("off", PLANS)
    def test_are_right_in_whichever_order_a_plan_comes_by_them(self, off):
        """What is read of an instant goes by the row of the next one, so the rows have an order."""
        organization = create_organization()
        ids = [open_account(organization, f"wallets:{n}:EUR", floor=None) for n in range(6)]
        # So many others that reading what is asked by them may be the shorter way.
        for n in range(60):
            open_account(organization, f"others:{n}:EUR", floor=None)
        told = {id_: [] for id_ in ids}
        # The balances of the first accounts are written last, and so lie behind the others.
        for payer, payee in zip(ids[2::-1], ids[:2:-1], strict=True):
            moves = [(START + timedelta(hours=2 * n), (-1) ** n * (10 + n)) for n in range(10)]
            for at, amount in moves:
                sides = (payer, payee) if amount > 0 else (payee, payer)
                post(organization, move(*sides, abs(amount), effective_at=at))
                told[payer].append((at, -amount))
                told[payee].append((at, amount))
        ats = [START + timedelta(hours=hours) for hours in (-1, 5, 11)]
        balances = queries.read_balances(organization_id=organization, account_ids=ids)
        with connection.cursor() as cursor:
            # What was planned before is planned anew.
            cursor.execute("ANALYZE ledger_balance")
            cursor.execute("DISCARD PLANS")
            for name in off:
                cursor.execute(f"SET LOCAL enable_{name} = off")

        found = queries.later_balances(
            organization_id=organization,
            balances=balances,
            instants=dict.fromkeys(reversed(ids), ats),
        )

        for id_, later in found.items():
            plain = later_balances(told[id_], ats)
            assert (later.instants, later.lows) == (plain.instants, plain.lows)
