"""Reads through time, compared with sums over every posting."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.ledger import errors, queries
from apps.ledger.queries import LinesAsked, Position, _chosen_accounts, _slices
from tests.ledger.factories import create_organization, open_account
from tests.ledger.histories import (
    Move,
    balances_at,
    movement_totals,
    movements_between,
    write_history,
    write_totals,
)
from tests.support import examples

pytestmark = pytest.mark.django_db

START = datetime(2026, 1, 20, 8, tzinfo=UTC)
CODES = ("wallets:ann:EUR", "wallets:bob:EUR", "bank:ba_1:EUR", "wallets_old:x:EUR")
# On both sides of the span within which a posting counts as near, and far beyond it.
SHIFTS = [timedelta(hours=hours) for hours in (0, -1, 24, -95, -97, 97, -24 * 45, 24 * 40)]


def create_books() -> tuple:
    organization = create_organization()
    accounts = [
        open_account(
            organization, code, type_="asset" if code[0] == "b" else "liability", floor=None
        )
        for code in CODES
    ]
    return organization, accounts


@st.composite
def drawn_moves(draw):
    """Draw transfers as indexes of accounts, an amount, hours since the last, and a shift."""
    count = draw(st.integers(0, 25))
    pairs = st.sampled_from([(a, b) for a in range(4) for b in range(4) if a != b])
    return [
        (*draw(pairs), draw(st.integers(1, 1000)), draw(st.integers(0, 24 * 9)),
         draw(st.sampled_from(SHIFTS)))
        for _ in range(count)
    ]  # fmt: skip


def as_moves(accounts, drawn) -> list[Move]:
    moves, now = [], START
    for debit, credit, amount, hours, shift in drawn:
        now += timedelta(hours=hours)
        moves.append(Move(accounts[debit], accounts[credit], amount, now + shift, now))
    return moves


INSTANTS = st.lists(
    st.one_of(
        st.integers(-24 * 60, 24 * 300).map(lambda hours: START + timedelta(hours=hours)),
        st.integers(1, 12).map(lambda month: datetime(2026, month, 1, tzinfo=UTC)),
    ),
    min_size=2,
    max_size=3,
)
EXAMPLES = settings(
    max_examples=examples(20), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(params=["account by account", "in one pass"])
def few_accounts(request, monkeypatch) -> None:
    """Read four accounts as a branch of few is read, and as one of thousands."""
    if request.param == "in one pass":
        monkeypatch.setattr(_chosen_accounts, "FEW_ACCOUNTS", 0)


@pytest.mark.usefixtures("few_accounts")
class TestBalancesAt:
    @EXAMPLES
    @given(drawn=drawn_moves(), sealed=st.integers(0, 25), instants=INSTANTS)
    def test_is_the_sum_of_every_posting_whatever_is_sealed(self, drawn, sealed, instants):
        organization, accounts = create_books()
        history = write_history(organization, as_moves(accounts, drawn))
        write_totals(organization, history.entry_ids[:sealed])
        told = [*instants, *(move.effective_at for move in history.moves[:2])]

        for at in told:
            for clock in ("effective", "recorded"):
                found = balances_at(organization, at, clock=clock)
                expected = {id_: history.balance(id_, at, clock) for id_ in accounts}
                assert {
                    one.account_id: one.posted if one.type == "asset" else -one.posted
                    for one in found
                } == expected

    def test_reads_a_branch_and_not_what_only_begins_alike(self):
        organization, accounts = create_books()
        ann, bob, bank, old = accounts
        write_history(
            organization,
            [Move(bank, account, 100, START, START) for account in (ann, bob, old)],
        )

        def codes(prefix: str) -> list[str]:
            found = balances_at(organization, START, code_prefix=prefix)
            return [one.code for one in found if one.posted == 100]

        assert codes("wallets:") == codes("wallets") == [CODES[0], CODES[1]]
        assert codes("wallets:ann") == codes(CODES[0]) == [CODES[0]]
        assert codes("wallets:a") == []

    def test_counts_the_instant_itself_and_nothing_after(self):
        organization, (ann, _, bank, _) = create_books()
        write_history(organization, [Move(bank, ann, 100, START, START)])

        def at(instant: datetime, clock: str) -> int:
            [found] = balances_at(organization, instant, clock=clock, account_id=ann)
            return found.posted

        for clock in ("effective", "recorded"):
            assert at(START, clock) == 100
            assert at(START - timedelta(microseconds=1), clock) == 0

    @pytest.mark.parametrize("tick", [-1, 0, 1])
    @pytest.mark.parametrize("days", [4, -4])
    def test_counts_what_was_recorded_days_away_from_when_it_happened(self, days, tick):
        """Four days apart is near, and a tick more is not: each is read in another way."""
        organization, (ann, _, bank, _) = create_books()
        first = datetime(2026, 6, 1, tzinfo=UTC)
        at = first + timedelta(days=10)
        apart = timedelta(days=days, microseconds=tick)
        moves = [Move(bank, ann, 1, first - timedelta(days=9), first - timedelta(days=9))]
        moves += [Move(bank, ann, n, when, when + apart) for n, when in ((20, first), (300, at))]
        moves += [Move(bank, ann, 4000, at + timedelta(days=9), at + timedelta(days=9))]
        write_totals(organization, write_history(organization, moves).entry_ids)

        def on(instant: datetime) -> int:
            [found] = balances_at(organization, instant, account_id=ann)
            return found.posted

        assert [on(first), on(at - timedelta(microseconds=1)), on(at)] == [21, 21, 321]

    def test_counts_each_once_where_the_clock_stepped_back_between_them(self):
        organization, (ann, bob, bank, _) = create_books()
        july, second = datetime(2026, 7, 1, tzinfo=UTC), timedelta(seconds=1)
        half = timedelta(minutes=30)
        moves = [
            # Back over the end of a month, by the second of which all is sealed.
            Move(bank, ann, 100, july + second, july + second),
            Move(bank, ann, 7, july + timedelta(days=19), july - second),
            # Back within the time that a posting's two clocks may lie apart.
            Move(bank, bob, 40, july + timedelta(days=9), july + timedelta(days=9) + half),
            Move(bank, bob, 2, july + timedelta(days=5), july + timedelta(days=9)),
        ]
        write_totals(organization, write_history(organization, moves).entry_ids)

        def on(day: int) -> list[int]:
            found = balances_at(organization, july + timedelta(days=day), code_prefix="wallets")
            return [one.posted for one in found]

        assert [on(day) for day in (4, 5, 9, 20)] == [[100, 0], [100, 2], [100, 42], [107, 42]]

    def test_keeps_what_the_books_said_apart_from_what_had_happened(self):
        organization, (ann, _, bank, _) = create_books()
        june, july = datetime(2026, 6, 30, 12, tzinfo=UTC), datetime(2026, 7, 1, 9, tzinfo=UTC)
        write_history(organization, [Move(bank, ann, 100, june, july)])

        def on_30_june(clock: str) -> int:
            [found] = balances_at(organization, june, clock=clock, account_id=ann)
            return found.posted

        assert on_30_june("effective") == 100
        assert on_30_june("recorded") == 0


class TestGetStatement:
    @EXAMPLES
    @given(
        drawn=drawn_moves(),
        sealed=st.integers(0, 25),
        bounds=INSTANTS,
        clock=st.sampled_from(["effective", "recorded"]),
        slice_=st.sampled_from([1, 3, 20_000]),
        limit=st.integers(1, 4),
    )
    def test_pages_are_the_lines_in_order_with_their_running_balance(
        self, monkeypatch, drawn, sealed, bounds, clock, slice_, limit
    ):
        monkeypatch.setattr(_slices, "SLICE", slice_)
        organization, accounts = create_books()
        account, since, until = accounts[0], min(bounds), max(bounds)
        history = write_history(organization, as_moves(accounts, drawn))
        write_totals(organization, history.entry_ids[:sealed])

        lines, after, pages = [], None, 0
        while True:
            page = queries.get_statement(
                organization_id=organization, account_id=account, since=since, until=until,
                clock=clock, ask=LinesAsked(limit, after=after),
            )  # fmt: skip
            lines += page.lines
            after, pages = page.next, pages + 1
            if after is None:
                break

        running, version, expected = page.opening_minor, 0, []
        for move in history.moves:
            if account in {move.debit, move.credit}:
                version += 1
                at = move.effective_at if clock == "effective" else move.recorded_at
                amount = move.amount if move.debit == account else -move.amount
                expected.append((at, version, amount))
        told = sorted(line for line in expected if since <= line[0] < until)
        assert [(line.account_version, line.amount_minor) for line in lines] == [
            (version, amount) for _, version, amount in told
        ]
        for line in lines:
            running -= line.amount_minor
            assert line.balance_after_minor == running
        assert page.closing_minor == running
        assert page.opening_minor == -history.balance(
            account, since - timedelta(microseconds=1), clock
        )
        assert pages < 400

    @pytest.mark.parametrize("clock", ["effective", "recorded"])
    def test_of_one_kind_leaves_lines_out_and_counts_them(self, clock):
        organization, (ann, bob, bank, _) = create_books()
        hour = timedelta(hours=1)
        write_history(
            organization,
            [
                Move(bank, ann, 100, START, START),
                Move(ann, bob, 30, START + hour, START + hour, kind="fee"),
                Move(bank, ann, 5, START + 2 * hour, START + 2 * hour),
                Move(ann, bob, 7, START + 3 * hour, START + 3 * hour, kind="fee"),
            ],
        )

        found = queries.get_statement(
            organization_id=organization, account_id=ann, since=START, until=START + 9 * hour,
            clock=clock, kind="fee",
        )  # fmt: skip

        assert [line.amount_minor for line in found.lines] == [30, 7]
        assert [line.balance_after_minor for line in found.lines] == [70, 68]
        assert (found.opening_minor, found.closing_minor) == (0, 68)

    @pytest.mark.parametrize("clock", ["effective", "recorded"])
    def test_goes_on_within_its_window_whatever_the_place(self, clock):
        organization, (ann, bob, bank, _) = create_books()
        day = timedelta(days=1)
        write_history(
            organization,
            [
                Move(bank, ann, 100, START, START),
                Move(ann, bob, 30, START + day, START + day),
                Move(ann, bob, 7, START + 2 * day, START + 2 * day),
            ],
        )
        end = datetime.max.replace(tzinfo=UTC)

        def lines(place):
            found = queries.get_statement(
                organization_id=organization, account_id=ann, since=START + day,
                until=START + 2 * day, clock=clock, ask=LinesAsked(after=place),
            )  # fmt: skip
            assert (found.opening_minor, found.closing_minor, found.next) == (100, 70, None)
            return [(line.amount_minor, line.balance_after_minor) for line in found.lines]

        # Of an earlier window, whose lines are in the opening balance; and of no window at all.
        for at in (START - day, START, datetime.min.replace(tzinfo=UTC)):
            assert lines(Position(at, 0)) == [(30, 70)]
        for place in (Position(START + day, 2), Position(START + 3 * day, 3), Position(end, 9)):
            assert lines(place) == []

    def test_of_an_account_of_nobody_is_refused(self):
        organization, _ = create_books()
        _, (other, *_) = create_books()

        with pytest.raises(errors.LedgerAccountNotFound):
            queries.get_statement(
                organization_id=organization, account_id=other, since=START, until=START
            )


@pytest.mark.usefixtures("few_accounts")
class TestMovementsBetween:
    @EXAMPLES
    @given(drawn=drawn_moves(), sealed=st.integers(0, 25), bounds=INSTANTS)
    def test_opens_moves_and_closes_as_the_postings_say(self, drawn, sealed, bounds):
        organization, accounts = create_books()
        since, until = min(bounds), max(bounds)
        history = write_history(organization, as_moves(accounts, drawn))
        write_totals(organization, history.entry_ids[:sealed])
        tick = timedelta(microseconds=1)

        lines = movements_between(organization_id=organization, since=since, until=until)

        within = [move for move in history.moves if since <= move.effective_at < until]
        for line in lines:
            id_ = line.account_id
            assert line.opening == history.balance(id_, since - tick)
            assert line.debits == sum(move.amount for move in within if move.debit == id_)
            assert line.credits == sum(move.amount for move in within if move.credit == id_)
            assert line.closing == history.balance(id_, until - tick)
        moved = {
            id_
            for move in history.moves
            if move.effective_at < until
            for id_ in (move.debit, move.credit)
        }
        assert {line.account_id for line in lines} == moved
        assert all(total.is_balanced for total in movement_totals(lines))

    @EXAMPLES
    @given(drawn=drawn_moves(), sealed=st.integers(0, 25), bounds=INSTANTS)
    def test_of_a_branch_are_its_lines_of_the_whole_tree(self, drawn, sealed, bounds):
        organization, accounts = create_books()
        since, until = min(bounds), max(bounds)
        history = write_history(organization, as_moves(accounts, drawn))
        write_totals(organization, history.entry_ids[:sealed])

        lines = movements_between(organization_id=organization, since=since, until=until)
        branch = movements_between(
            organization_id=organization, since=since, until=until, code_prefix="wallets"
        )
        dollars = movements_between(
            organization_id=organization, since=since, until=until, currency="USD"
        )

        assert branch == [line for line in lines if line.code in CODES[:2]]
        assert dollars == []

    def test_leaves_out_what_never_moved(self):
        organization, (ann, _, bank, _) = create_books()
        later = START + timedelta(hours=1)
        write_history(organization, [Move(bank, ann, 100, START, START)])

        lines = movements_between(
            organization_id=organization, since=later, until=later + timedelta(hours=1)
        )

        assert [(line.code, line.opening, line.debits, line.credits) for line in lines] == [
            ("bank:ba_1:EUR", 100, 0, 0),
            ("wallets:ann:EUR", -100, 0, 0),
        ]


@pytest.mark.django_db(transaction=True)
class TestBalanceSheets:
    def test_assets_are_liabilities_equity_and_result(self):
        organization = create_organization()
        bank, owner, wallet, fees, costs = (
            open_account(organization, code, type_=type_, floor=None)
            for code, type_ in [
                ("bank:b:EUR", "asset"),
                ("equity:paid_in:EUR", "equity"),
                ("wallets:ann:EUR", "liability"),
                ("fees:f:EUR", "income"),
                ("costs:c:EUR", "expense"),
            ]
        )
        write_history(
            organization,
            [
                Move(bank, owner, 1000, START, START),
                Move(bank, wallet, 500, START, START),
                Move(wallet, fees, 20, START, START),
                Move(costs, bank, 5, START, START),
                Move(wallet, fees, 99, START + timedelta(days=1), START),
            ],
        )

        [sheet] = queries.balance_sheets(organization_id=organization, at=START)

        assert (sheet.assets, sheet.liabilities, sheet.equity) == (1495, 480, 1000)
        assert (sheet.income, sheet.expenses, sheet.result) == (20, 5, 15)
        assert sheet.is_balanced
