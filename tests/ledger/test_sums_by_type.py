"""Sums over all accounts against plain sums of postings: any books, sealed however far."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from apps.ledger import queries
from apps.ledger.operations import AccountSpec, open_accounts
from apps.ledger.queries import PageAsked, _chosen_accounts
from apps.ledger.queries._history import TICK
from apps.ledger.rules import CREDIT_NORMAL
from tests.ledger.factories import NOW, committed, create_organization
from tests.ledger.histories import Move, write_history
from tests.support import examples

pytestmark = pytest.mark.django_db(transaction=True)

START = datetime(2026, 1, 30, 20, tzinfo=UTC)
TYPES = ("liability", "asset", "income", "expense", "equity")
# Two of each type, in either currency; one of each never moves.
CODES = tuple(f"n{n}:{of}" for n in range(10) for of in ("EUR", "USD"))
EXAMPLES = settings(
    max_examples=examples(50), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
HOURS = st.integers(0, 400)
# Back and forth by hours, by more than what is far apart (four days), and by months.
SHIFTS = st.sampled_from([0, 0, -1, 30, 24 * 4, -24 * 5, 24 * 6, -24 * 8, -24 * 45, 24 * 70])
# Of all time, of the months that entries are in, and of starts of months and the ticks beside.
INSTANTS = st.one_of(
    st.datetimes(datetime(2025, 11, 1), datetime(2027, 3, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.builds(lambda hours: START + timedelta(hours=hours), st.integers(-100, 2500)),
    st.builds(
        lambda month, ticks: datetime(2026, month, 1, tzinfo=UTC) + ticks * TICK,
        st.integers(1, 12),
        st.integers(-1, 1),
    ),
)
# Far apart, and both within the part of a month that is read posting by posting.
BACK_DATED = [("n0:EUR", "n1:EUR", 5, START + timedelta(days=3), START + timedelta(days=9))]


@st.composite
def drawn_moves(draw):
    moves, now = [], START
    for _ in range(draw(st.integers(0, 25))):
        of = draw(st.sampled_from(["EUR", "EUR", "USD"]))
        numbers = st.integers(0, 8)
        debit, credit = draw(st.lists(numbers, min_size=2, max_size=2, unique=True))
        now += timedelta(hours=draw(HOURS))
        at = now + timedelta(hours=draw(SHIFTS))
        moves.append((f"n{debit}:{of}", f"n{credit}:{of}", draw(st.integers(1, 999)), at, now))
    return moves


def type_of(code: str) -> str:
    return TYPES[int(code[1]) % 5]


class Books:
    def __init__(self, drawn) -> None:
        self.drawn = drawn
        self.organization = create_organization()
        specs = [AccountSpec(code, type_of(code), code[-3:], None) for code in CODES]
        ids = committed(open_accounts)(organization_id=self.organization, accounts=specs, now=NOW)
        moves = [Move(ids[debit], ids[credit], *rest) for debit, credit, *rest in drawn]
        self.entry_ids = write_history(self.organization, moves).entry_ids

    def seal(self, portions) -> int:
        """Seal portions as the sealer does: of an account in order, of others as it happens."""
        open_ = list(range(len(self.drawn)))
        for tries in portions:
            held: set[str] = set()
            portion = []
            for number, taken in zip(list(open_), tries, strict=False):
                sides = set(self.drawn[number][:2])
                if taken and not sides & held:
                    portion.append(number)
                    open_.remove(number)
                else:
                    held |= sides
            if not portion:
                continue
            with connection.cursor() as cursor:
                cursor.execute(
                    import_module("apps.ledger.operations._sealing")._TOTALS,
                    {"org": self.organization, "ids": [self.entry_ids[n] for n in portion]},
                )
        return len(open_)

    def sums(self, before: datetime, clock: str = "effective", prefix: str = ""):
        """Return debits and credits of each currency and type before an instant."""
        found = defaultdict(lambda: [0, 0])
        for debit, credit, amount, *clocks in self.drawn:
            if clocks[clock == "recorded"] >= before:
                continue
            for side, code in enumerate((debit, credit)):
                if code.startswith(prefix):
                    found[code[-3:], type_of(code)][side] += amount
        return found


@pytest.mark.parametrize("few", [0, 200], ids=["many", "few"])
@EXAMPLES
@example(drawn=BACK_DATED, portions=[[True]], at=START + timedelta(days=12), currency="")
@given(
    drawn=drawn_moves(),
    portions=st.lists(st.lists(st.booleans(), max_size=25), max_size=3),
    at=INSTANTS,
    currency=st.sampled_from(["", "EUR", "USD"]),
)
def test_are_those_of_the_postings(few, drawn, portions, at, currency):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_chosen_accounts, "FEW_ACCOUNTS", few)
        books = Books(drawn)
        left = books.seal(portions)
        ask = PageAsked(limit=2, currency=currency)
        org = {"organization_id": books.organization}
        currencies = [of for of in ("EUR", "USD") if currency in {"", of}]

        assert queries.count_unsealed(**org, until=datetime(2100, 1, 1, tzinfo=UTC)) == left
        # The trial balance up to an instant.
        plain = books.sums(at)
        page = queries.page_until(**org, until=at, ask=ask)
        moved = {
            of: [sum(side) for side in zip(*own, strict=True)]
            for of in currencies
            if (own := [sums for (one, _), sums in plain.items() if one == of])
        }
        assert {one.currency: [one.debits, one.credits] for one in page.totals} == moved
        # The balance sheet, which counts what was at the instant too.
        plain = books.sums(at + TICK)
        for sheet in (sheets := queries.balance_sheets(**org, at=at, currency=currency)):
            told = (sheet.liabilities, sheet.assets, sheet.income, sheet.expenses, sheet.equity)
            assert told == tuple(on_side(type_, plain[sheet.currency, type_]) for type_ in TYPES)
            assert sheet.is_balanced
        assert {sheet.currency for sheet in sheets} == {of for of, _ in plain} & set(currencies)
        # Balances, by either clock.
        for clock in ("effective", "recorded"):
            plain = books.sums(at + TICK, clock)
            found = queries.page_of_balances_at(**org, at=at, clock=clock, ask=ask)
            assert {(one.currency, one.type): one.posted for one in found.totals} == {
                (of, type_): on_side(type_, plain[of, type_])
                for of in currencies
                for type_ in TYPES
            }


def on_side(type_: str, sums) -> int:
    debits, credits_ = sums
    return credits_ - debits if type_ in CREDIT_NORMAL else debits - credits_


def test_of_what_no_total_counts_are_stored_nowhere_before_they_are_summed(monkeypatch):
    """A minute at full rate is more of them than Postgres holds in memory for a read."""
    monkeypatch.setattr(_chosen_accounts, "FEW_ACCOUNTS", 0)
    books = Books(BACK_DATED)
    with CaptureQueriesContext(connection) as captured:
        [sheet] = queries.balance_sheets(organization_id=books.organization, at=NOW)
    [read] = [one["sql"] for one in captured if "unsealed" in one["sql"]]

    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {read}")
        plan = "\n".join(line for (line,) in cursor.fetchall())

    assert sheet.is_balanced
    assert "on ledger_posting" in plan
    assert "CTE unsealed" not in plan
