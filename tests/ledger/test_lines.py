"""A trial balance as people read it, grouped by Postgres; and totals that are kept by type."""

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib import import_module

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.ledger import queries
from apps.ledger.models import MonthlyTotal, TypeTotal
from apps.ledger.operations import AccountSpec, open_accounts
from apps.ledger.queries import CurrencyLines, Shown, _chosen_accounts
from tests.ledger.factories import NOW, committed, create_organization, open_account
from tests.ledger.histories import (
    Move,
    movements_of,
    seal,
    write_history,
    write_totals,
)
from tests.support import examples

pytestmark = pytest.mark.django_db(transaction=True)

JUNE = date(2026, 6, 1)
START = datetime(2026, 5, 10, 8, tzinfo=UTC)
# Two ids, and a name as long as one; segments that begin alike, and roots of one and of many.
IDS = ("cus_01m8dvbe6segtakxcy15", "cus_01m8dvbe6segtakxcy16", "a_name_as_long_as_an_id")
CODES = (
    *(f"customers:{id_}:{kind}:EUR" for id_ in IDS for kind in ("available", "reserved")),
    f"customers:{IDS[0]}:available:USD",
    "customers:EUR", "customers1:EUR", "bank:ba_1:EUR", "bank:ba_1:USD", "bank:ba_2:EUR",
    "wallets:s_1:EUR", "wallets:s_2:EUR", "wallets:s_3:EUR", f"{IDS[2]}:EUR",
)  # fmt: skip
TYPES = ("liability", "asset", "income")
EXAMPLES = settings(
    max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def drawn_moves(draw):
    """Draw transfers within one currency: two codes, an amount, hours since the last, a shift."""
    moves = []
    for _ in range(draw(st.integers(0, 12))):
        currency = draw(st.sampled_from(["EUR", "EUR", "USD"]))
        codes = st.sampled_from([code for code in CODES if code.endswith(currency)])
        debit, credit = draw(st.lists(codes, min_size=2, max_size=2, unique=True))
        shift = draw(st.sampled_from([0, -24 * 45, 24 * 40]))
        moves.append((debit, credit, draw(st.integers(1, 999)), draw(st.integers(0, 240)), shift))
    return moves


def write_books(drawn, sealed: int):
    organization = create_organization()
    specs = [AccountSpec(code, TYPES[n % 3], code[-3:], None) for n, code in enumerate(CODES)]
    ids = committed(open_accounts)(organization_id=organization, accounts=specs, now=NOW)
    moves, now = [], START
    for debit, credit, amount, hours, shift in drawn:
        now += timedelta(hours=hours)
        at = now + timedelta(hours=shift)
        moves.append(Move(ids[debit], ids[credit], amount, at, now))
    history = write_history(organization, moves)
    write_totals(organization, history.entry_ids[:sealed])
    return organization


def grouped(rows, show: Shown) -> list[tuple]:
    """Group accounts' rows (currency, code, type, id, three amounts) as plainly as can be."""
    found = []
    for currency in sorted({row[0] for row in rows}):
        own = [row for row in rows if row[0] == currency]
        found.append((currency, lines_of_currency(own, show), summed(own)[:4]))
    return found


def lines_of_currency(rows, show: Shown) -> list[tuple]:
    lines: dict[tuple[str, str], list] = {}
    for row in rows:
        lines.setdefault((re.sub("[^:]{20,}", "*", row[1]), row[2]), []).append(row)
    for root in {root_of(key) for key in lines}:
        keys = [key for key in lines if root_of(key) == root]
        if len(keys) > show.lines_of_root:
            for key in keys:
                lines.setdefault((f"{root}:…", key[1]), []).extend(lines.pop(key))
    order = sorted(lines, key=lambda key: (key[0].split(":"), key[1]))
    shown = order[: show.lines]
    if len(order) > show.lines:
        shown = [key for key in shown if root_of(key) != root_of(order[show.lines])]
    rest = [row for key in order if key not in shown for row in lines[key]]
    told = [(*key, *summed(lines[key])) for key in shown]
    return told + ([("…", "", *summed(rest)[:4], None)] if rest else [])


def root_of(key: tuple[str, str]) -> str:
    return key[0].split(":")[0]


def summed(rows) -> tuple:
    """Return how many accounts, the sums of their amounts, and the account if it is one."""
    sums = [sum(row[n] for row in rows) for n in (4, 5, 6)]
    return (len(rows), *sums, rows[0][3] if len(rows) == 1 else None)


def told(found: list[CurrencyLines]) -> list[tuple]:
    return [
        (
            one.currency,
            [
                (line.code, line.type, line.accounts, line.opening, line.debits, line.credits,
                 line.account_id)
                for line in one.lines
            ],
            (one.total.accounts, one.total.opening, one.total.debits, one.total.credits),
        )
        for one in found
    ]  # fmt: skip


@pytest.fixture(params=[0, 200])
def few(request, monkeypatch) -> None:
    """Read as of thousands of accounts, and as of few."""
    monkeypatch.setattr(_chosen_accounts, "FEW_ACCOUNTS", request.param)


SHOWN = st.builds(Shown, st.integers(1, 12), st.integers(1, 4))
BRANCHES = st.sampled_from(["", "customers", "customers:", f"customers:{IDS[0]}", "nobody"])
CURRENCIES = st.sampled_from(["", "EUR", "USD"])


@pytest.mark.usefixtures("few")
class TestLines:
    @EXAMPLES
    @given(
        drawn=drawn_moves(), sealed=st.integers(0, 12), show=SHOWN, branch=BRANCHES,
        currency=CURRENCIES,
    )  # fmt: skip
    def test_of_a_month_are_its_accounts_grouped(self, drawn, sealed, show, branch, currency):
        organization = write_books(drawn, sealed)
        view = queries.view_period(organization_id=organization, month=JUNE)

        found = queries.lines_of(view, show=show, code_prefix=branch, currency=currency)

        accounts = movements_of(view, code_prefix=branch, currency=currency)
        rows = [
            (one.currency, one.code, one.type, one.account_id, one.opening, one.debits, one.credits)
            for one in accounts
        ]
        assert told(found) == grouped(rows, show)

    @EXAMPLES
    @given(drawn=drawn_moves(), show=SHOWN, branch=BRANCHES)
    def test_of_now_are_every_accounts_net_on_its_side(self, drawn, show, branch):
        organization = write_books(drawn, sealed=0)
        ids = queries.account_ids(organization_id=organization, codes=CODES)

        found = queries.lines_now(organization_id=organization, show=show, code_prefix=branch)

        below = branch.rstrip(":")
        rows = [
            (one.currency, one.code, one.type, ids[one.code], 0, one.debit, one.credit)
            for one in queries.trial_balance(organization_id=organization)
            if not below or one.code == below or one.code.startswith(f"{below}:")
        ]
        assert told(found) == grouped(rows, show)


def types_of(organization) -> dict[tuple, tuple]:
    rows = TypeTotal.objects.filter(organization_id=organization)
    return {
        (row.clock, row.month, row.currency, row.type): (
            row.debits_minor, row.credits_minor, row.postings,
        )
        for row in rows
    }  # fmt: skip


class TestTypeTotals:
    @pytest.fixture
    def books(self):
        organization = create_organization()
        ann, bob = (open_account(organization, f"wallets:{who}:EUR") for who in ("ann", "bob"))
        bank = open_account(organization, "bank:ba_1:EUR", type_="asset", floor=None)
        return organization, ann, bob, bank

    def test_are_what_the_months_of_their_accounts_come_to(self, books):
        organization, ann, bob, bank = books
        late = START + timedelta(days=40)
        history = write_history(
            organization,
            [
                Move(bank, ann, 100, START, START),
                Move(bank, bob, 7, START, START),
                Move(ann, bob, 30, START, late),
            ],
        )
        # Two portions: the second adds to what the first wrote.
        write_totals(organization, history.entry_ids[:2])
        self.seal_next(organization, history.entry_ids[2:])

        may, june = date(2026, 5, 1), date(2026, 6, 1)
        assert types_of(organization) == {
            ("effective", may, "EUR", "asset"): (107, 0, 2),
            ("effective", may, "EUR", "liability"): (30, 137, 4),
            ("recorded", may, "EUR", "asset"): (107, 0, 2),
            ("recorded", may, "EUR", "liability"): (0, 107, 2),
            ("recorded", june, "EUR", "liability"): (30, 30, 2),
        }

    @staticmethod
    def seal_next(organization, entry_ids) -> None:
        """Write the totals of further entries as the sealer does, over those that stand."""
        totals = import_module("apps.ledger.operations._sealing")._TOTALS
        with connection.cursor() as cursor:
            cursor.execute(totals, {"org": organization, "ids": list(entry_ids)})

    def test_may_be_more_than_a_bigint_holds(self, books):
        organization, ann, bob, _ = books
        most = 2**62
        MonthlyTotal.objects.bulk_create(
            MonthlyTotal(
                organization_id=organization, account_id=account, clock="effective", month=JUNE,
                debits_minor=most, credits_minor=0, postings=1, first_version=1, last_version=1,
            )
            for account in (ann, bob)
        )  # fmt: skip

        [(debits, _, _)] = types_of(organization).values()
        assert debits == Decimal(2 * most)

    def test_are_made_by_the_migration_of_what_is_there(self, books):
        organization, ann, bob, bank = books
        write_history(
            organization, [Move(bank, ann, 100, START, START), Move(ann, bob, 3, START, START)]
        )
        seal(organization)
        stood = types_of(organization)
        TypeTotal.objects.all().delete()
        migration = import_module("apps.ledger.migrations.0021_totals_by_type")

        with connection.cursor() as cursor:
            cursor.execute(migration._WHAT_IS_THERE)

        assert types_of(organization) == stood
        assert stood


class TestWhatIsNotSealed:
    @pytest.fixture(params=[0, 200], autouse=True)
    def _few(self, request, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_chosen_accounts, "FEW_ACCOUNTS", request.param)

    def test_is_found_behind_newer_entries_that_are(self):
        """Of other accounts: a portion that took long to be numbered is sealed after them."""
        organization = create_organization()
        ann, bob, cat, dan = (
            open_account(organization, f"wallets:{who}:EUR", floor=None)
            for who in ("ann", "bob", "cat", "dan")
        )
        history = write_history(
            organization,
            [
                Move(ann, bob, 10, START, START),
                *(Move(cat, dan, 1, START, START + timedelta(hours=n)) for n in range(1, 9)),
            ],
        )
        write_totals(organization, history.entry_ids[1:])

        assert self.unsealed(organization) == 1
        totals = queries.page_until(
            organization_id=organization,
            # The start of a month: nothing is read between it and the instant.
            until=datetime(2026, 6, 1, tzinfo=UTC),
            ask=queries.PageAsked(limit=1),
        ).totals
        assert [(one.debits, one.credits) for one in totals] == [(18, 18)]

    def test_is_nothing_where_all_is(self):
        organization = create_organization()
        ann, bob = (
            open_account(organization, f"wallets:{who}:EUR", floor=None) for who in ("ann", "bob")
        )
        write_history(organization, [Move(ann, bob, 10, START, START)])
        assert self.unsealed(organization) == 1

        seal(organization)

        assert self.unsealed(organization) == 0

    unsealed = staticmethod(
        lambda organization: queries.count_unsealed(
            organization_id=organization, until=datetime(2100, 1, 1, tzinfo=UTC)
        )
    )
