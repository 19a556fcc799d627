"""Pages of a trial balance, held against the whole list of its lines."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.core.ids import new_id
from apps.ledger import queries
from apps.ledger.models import Period, PeriodBalance
from apps.ledger.operations import AccountSpec, open_accounts
from apps.ledger.queries import TICK, PageAsked, _chosen_accounts, _history, _trial_balance
from apps.ledger.queries._history import on_normal_side
from tests.ledger.factories import NOW, committed, create_organization, open_account
from tests.ledger.histories import (
    Move,
    balances_at,
    movement_totals,
    movements_between,
    movements_of,
    write_history,
    write_totals,
)
from tests.ledger.test_periods import Books
from tests.support import examples

pytestmark = pytest.mark.django_db(transaction=True)

START = datetime(2026, 1, 20, 8, tzinfo=UTC)
TYPES = ("asset", "liability", "equity", "income", "expense")
EUR = ("a:b:EUR", "a:b2:EUR", "a:EUR", "a_b:EUR", "ab:EUR", "b:a:EUR", "b:a1:EUR", "c:EUR")
USD = ("a:b:USD", "a:c:USD", "b:a:USD", "d:USD")
PREFIXES = ("", "a", "a:b", "a:b:", "a_", "b:a", "c:EUR", "nobody")


@st.composite
def drawn_moves(draw):
    """Draw transfers within one currency: two codes, an amount, hours since the last, a shift."""
    moves = []
    for _ in range(draw(st.integers(0, 20))):
        codes = draw(st.sampled_from([EUR, USD]))
        debit, credit = draw(st.permutations(codes))[:2]
        moves.append(
            (debit, credit, draw(st.integers(1, 1000)), draw(st.integers(0, 24 * 9)),
             timedelta(hours=draw(st.sampled_from([0, -95, 97, -24 * 45, 24 * 40]))))
        )  # fmt: skip
    return moves


def write_books(drawn, sealed: int):
    """Write accounts of every type, some of which never move, and what was drawn."""
    organization = create_organization()
    specs = [
        AccountSpec(code, TYPES[n % 5], code[-3:], None) for n, code in enumerate((*EUR, *USD))
    ]
    ids = committed(open_accounts)(organization_id=organization, accounts=specs, now=NOW)
    moves, now = [], START
    for debit, credit, amount, hours, shift in drawn:
        now += timedelta(hours=hours)
        moves.append(Move(ids[debit], ids[credit], amount, now + shift, now))
    history = write_history(organization, moves)
    write_totals(organization, history.entry_ids[:sealed])
    return organization


def pages(read, *, limit: int, **narrowed) -> tuple[list, list]:
    """Read page after page, none but the last short, and back again: the same pages, and totals."""
    forth = [read(PageAsked(limit=limit, **narrowed))]
    while forth[-1].has_more:
        assert len(forth[-1].lines) == limit
        after = forth[-1].lines[-1].account_id
        forth.append(read(PageAsked(limit=limit, after=after, **narrowed)))
    back = forth[-1:]
    while back[-1].has_previous:
        before = back[-1].lines[0].account_id
        back.append(read(PageAsked(limit=limit, before=before, **narrowed)))
    assert back[::-1] == forth
    return [line for page in forth for line in page.lines], forth[0].totals


NARROWED = st.fixed_dictionaries(
    {"code_prefix": st.sampled_from(PREFIXES), "currency": st.sampled_from(["", "EUR", "USD"])}
)
INSTANTS = st.one_of(
    st.integers(-24 * 60, 24 * 300).map(lambda hours: START + timedelta(hours=hours)),
    st.integers(1, 12).map(lambda month: datetime(2026, month, 1, tzinfo=UTC)),
)
EXAMPLES = settings(
    max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(params=["few", "many", "portions"])
def ways(request, monkeypatch) -> None:
    """Read as of few accounts, as of thousands, and as of many that did not move by then."""
    if request.param != "few":
        monkeypatch.setattr(_chosen_accounts, "FEW_ACCOUNTS", 0)
    if request.param == "many":
        monkeypatch.setattr(_trial_balance, "PORTIONS", 0)
    if request.param == "portions":
        monkeypatch.setattr(_trial_balance, "FEW_ACCOUNTS", 2)
        monkeypatch.setattr(_trial_balance, "PORTIONS", 2)


@pytest.mark.usefixtures("ways")
class TestPages:
    @EXAMPLES
    @given(
        drawn=drawn_moves(), sealed=st.integers(0, 20), at=INSTANTS, narrowed=NARROWED,
        clock=st.sampled_from(["effective", "recorded"]), limit=st.integers(1, 5),
    )  # fmt: skip
    def test_up_to_an_instant_are_the_whole_list(self, drawn, sealed, at, narrowed, clock, limit):
        organization = write_books(drawn, sealed)

        lines, totals = pages(
            lambda ask: queries.page_until(
                organization_id=organization, until=at, ask=ask, clock=clock
            ),
            limit=limit, **narrowed,
        )  # fmt: skip

        whole = movements_between(
            organization_id=organization, since=None, until=at, clock=clock, **narrowed
        )
        assert lines == whole
        assert totals == movement_totals(whole)
        # Found in another way: by an account's versions, where the clock is the recorded one.
        stood = balances_at(organization, at - TICK, clock=clock)
        posted = {line.account_id: line.posted for line in stood}
        assert [on_normal_side(line.type, line.closing) for line in lines] == [
            posted[line.account_id] for line in lines
        ]

    @EXAMPLES
    @given(
        drawn=drawn_moves(), sealed=st.integers(0, 20), month=st.integers(1, 12),
        narrowed=NARROWED, limit=st.integers(1, 5), is_stored=st.booleans(),
    )  # fmt: skip
    def test_of_a_month_are_the_whole_list(self, drawn, sealed, month, narrowed, limit, is_stored):
        organization = write_books(drawn, sealed)
        month = date(2026, month, 1)
        since, until = queries.period_bounds(organization_id=organization, month=month)
        whole = movements_between(
            organization_id=organization, since=since, until=until, **narrowed
        )
        if is_stored:
            store(organization, month, since, until)

        def read(ask: PageAsked):
            view, page = queries.page_of_period(organization_id=organization, month=month, ask=ask)
            assert view.is_stored is is_stored
            return page

        assert pages(read, limit=limit, **narrowed) == (whole, movement_totals(whole))
        view = queries.view_period(organization_id=organization, month=month)
        assert movements_of(view, **narrowed) == whole

    @EXAMPLES
    @given(drawn=drawn_moves(), sealed=st.integers(0, 20), at=INSTANTS)
    def test_and_the_balance_sheet_say_the_same(self, drawn, sealed, at):
        organization = write_books(drawn, sealed)
        tick = timedelta(microseconds=1)

        sheets = queries.balance_sheets(organization_id=organization, at=at - tick)

        whole = movements_between(organization_id=organization, since=None, until=at)
        assert [sheet.currency for sheet in sheets] == sorted({line.currency for line in whole})
        for sheet in sheets:
            own = [line for line in whole if line.currency == sheet.currency]
            nets = [sum(line.closing for line in own if line.type == type_) for type_ in TYPES]
            assets, liabilities, equity, income, expenses = nets
            assert (sheet.assets, sheet.expenses) == (assets, expenses)
            assert (sheet.liabilities, sheet.equity, sheet.income) == (
                -liabilities, -equity, -income,
            )  # fmt: skip
            assert sheet.is_balanced


def store(organization, month: date, since: datetime, until: datetime) -> None:
    """Close the month as its second closing stores it; what the first one stored is left alone."""
    lines = movements_between(organization_id=organization, since=since, until=until)
    PeriodBalance.objects.bulk_create(
        PeriodBalance(
            organization_id=organization, month=month, closing=closing, account_id=line.account_id,
            opening_minor=line.opening * closing // 2, debits_minor=line.debits * closing // 2,
            credits_minor=line.credits * closing // 2,
        )
        for closing in (1, 2)
        for line in lines
    )  # fmt: skip
    Period.objects.create(
        id=new_id(), organization_id=organization, month=month, starts_at=since, ends_at=until,
        state="closed", closings=2, closed_at=until, requested_by="mara", approved_by="anton",
    )  # fmt: skip


class TestCursors:
    @pytest.mark.parametrize("narrowed", [{"code_prefix": "wallets"}, {"currency": "USD"}])
    def test_of_an_account_that_is_not_in_the_list_go_nowhere(self, narrowed):
        books = Books()
        other = Books()
        quiet = open_account(books.id, "wallets:quiet:EUR", floor=None)
        later = START + timedelta(days=365)

        def read(at=later, **asked):
            ask = PageAsked(limit=5, **asked)
            return queries.page_until(organization_id=books.id, until=at, ask=ask)

        assert [line.code for line in read(after=books.bank).lines] == ["wallets:ann:EUR"]
        assert [line.code for line in read(before=books.ann).lines] == ["bank:ba_1:EUR"]
        for empty in (read(after=books.ann), read(before=books.bank)):
            assert (empty.lines, empty.has_more, empty.has_previous) == ([], False, False)
            assert empty.totals == read().totals
        for way in ("after", "before"):
            assert read(**{way: books.bank}, **narrowed) is None
            assert read(**{way: quiet}) is read(**{way: other.ann}) is None
            assert read(**{way: books.bank}, at=START) is None


@pytest.mark.parametrize("few", [200, 0])
@pytest.mark.parametrize("portions", [3, 0])
def test_before_a_line_are_those_right_before_it(monkeypatch, few, portions):
    monkeypatch.setattr(_chosen_accounts, "FEW_ACCOUNTS", few)
    monkeypatch.setattr(_trial_balance, "PORTIONS", portions)
    organization = create_organization()
    a, b, c, d = (open_account(organization, f"a:{n}:EUR", floor=None) for n in range(4))
    write_history(organization, [Move(a, b, 1, START, START), Move(c, d, 1, START, START)])

    page = queries.page_until(
        organization_id=organization, until=NOW, ask=PageAsked(limit=2, before=d)
    )

    assert [line.account_id for line in page.lines] == [b, c]
    assert (page.has_previous, page.has_more) == (True, True)


class TestCost:
    def test_of_a_page_is_its_own_accounts(self, monkeypatch):
        organization = create_organization()
        specs = [AccountSpec(f"wallets:{n:04}:EUR", "liability", "EUR", None) for n in range(600)]
        ids = committed(open_accounts)(organization_id=organization, accounts=specs, now=NOW)
        codes = sorted(ids)
        write_history(
            organization,
            [Move(ids[one], ids[codes[-1]], 5, START, START) for one in codes[300:599]],
        )
        read, answer = [], _history._answer

        def counted(*args, **asked):
            rows = answer(*args, **asked)
            read.append(len(rows))
            return rows

        monkeypatch.setattr(_history, "_answer", counted)

        def page(at=START + timedelta(days=1), **asked):
            read.clear()
            ask = PageAsked(limit=10, **asked)
            with CaptureQueriesContext(connection) as captured:
                found = queries.page_until(organization_id=organization, until=at, ask=ask)
            sent = [one["sql"] for one in captured if one["sql"] not in {"BEGIN", "COMMIT"}]
            return found, sum(read), len(sent)

        # The first 300 accounts never moved, and are passed over; the totals are one row.
        first, rows, sent = page()
        assert ([line.code for line in first.lines], rows) == (codes[300:310], 11 + 1)
        assert first.totals[0].debits == 299 * 5
        assert sent <= 6
        second, rows, sent = page(after=first.lines[-1].account_id)
        assert ([line.code for line in second.lines], rows) == (codes[310:320], 12 + 1)
        assert sent <= 7
        back, rows, sent_back = page(before=second.lines[0].account_id)
        assert (back.lines, rows, sent_back) == (first.lines, 11 + 1, 6)
        # All of them moved after this instant: what is read of them is bounded too.
        none, rows, sent = page(at=START)
        assert (none.lines, none.totals) == ([], [])
        assert rows <= 11 + 2 * _chosen_accounts.FEW_ACCOUNTS + 1
        assert sent <= 12
