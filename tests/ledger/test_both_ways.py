"""Statements, balances and trial balances are walked forwards and backwards."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from apps.core import clock as clocks
from apps.ledger import queries
from apps.ledger.queries import LinesAsked, Position, _slices, _statement
from tests.ledger.clients import code_of, printed
from tests.ledger.factories import balance, fund, open_account, post_transfer
from tests.ledger.histories import Move, write_history, write_totals
from tests.ledger.test_history import (
    EXAMPLES,
    INSTANTS,
    START,
    as_moves,
    create_books,
    drawn_moves,
)
from tests.ledger.test_time_api import TimedClient
from tests.ledger.threads import Asking

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
CLOCKS = ["effective", "recorded"]


class TestStatements:
    @EXAMPLES
    @given(
        drawn=drawn_moves(),
        sealed=st.integers(0, 25),
        bounds=INSTANTS,
        clock=st.sampled_from(CLOCKS),
        slice_=st.sampled_from([1, 3, 20_000]),
        fees=st.sampled_from([0, 1, 5]),
        limit=st.integers(1, 4),
    )
    def test_are_the_same_both_ways(
        self, monkeypatch, drawn, sealed, bounds, clock, slice_, fees, limit
    ):
        """`fees`: every so many lines is of the kind that is asked for; 0 asks for any."""
        monkeypatch.setattr(_slices, "SLICE", slice_)
        organization, accounts = create_books()
        moves = as_moves(accounts, drawn)
        for move in moves[:: fees or 1]:
            object.__setattr__(move, "kind", "fee")
        history = write_history(organization, moves)
        write_totals(organization, history.entry_ids[:sealed])

        def read(**place):
            return queries.get_statement(
                organization_id=organization, account_id=accounts[0], since=min(bounds),
                until=max(bounds), clock=clock, kind="fee" if fees else "",
                ask=LinesAsked(limit, **place),
            )  # fmt: skip

        forth = [read()]
        while forth[-1].next is not None:
            assert len(forth) < 400
            forth.append(read(after=forth[-1].next))
        back = forth[-1:]
        while back[-1].previous is not None:
            assert len(back) < 400
            back.append(read(before=back[-1].previous))
        again = back[-1:]
        while again[-1].next is not None:
            assert len(again) < 400
            again.append(read(after=again[-1].next))

        lines = [line for page in forth for line in page.lines]
        assert [line for page in back[::-1] for line in page.lines] == lines
        assert [line for page in again for line in page.lines] == lines
        assert {(page.opening_minor, page.closing_minor) for page in [*back, *again]} == {
            (forth[0].opening_minor, forth[0].closing_minor)
        }
        if slice_ == 20_000:
            # Where no page is short they are the same ones, with the same cursors.
            assert back[::-1] == again == forth

    @pytest.mark.parametrize("clock", CLOCKS)
    def test_of_one_instant_go_by_their_versions(self, clock):
        organization, (ann, _, bank, _) = create_books()
        write_history(organization, [Move(bank, ann, n, START, START) for n in range(1, 6)])

        def amounts(**place):
            found = queries.get_statement(
                organization_id=organization, account_id=ann, since=START, until=START + HOUR,
                clock=clock, ask=LinesAsked(2, **place),
            )  # fmt: skip
            return [(-line.amount_minor, line.balance_after_minor) for line in found.lines]

        assert amounts(before=Position(START, 4)) == [(2, 3), (3, 6)]
        assert amounts(before=Position(START, 2)) == [(1, 1)]
        assert amounts(before=Position(START, 1)) == []
        assert amounts(after=Position(START, 3)) == [(4, 10), (5, 15)]

    @pytest.mark.parametrize("clock", CLOCKS)
    def test_begin_and_end_within_their_window_whatever_the_place(self, clock):
        organization, (ann, _, bank, _) = create_books()
        times = [START + n * HOUR for n in range(4)]
        write_history(organization, [Move(bank, ann, 10, at, at) for at in times])

        def found(place):
            page = queries.get_statement(
                organization_id=organization, account_id=ann, since=times[1], until=times[3],
                clock=clock, ask=LinesAsked(before=place),
            )  # fmt: skip
            assert (page.opening_minor, page.closing_minor, page.previous) == (10, 30, None)
            return [line.balance_after_minor for line in page.lines]

        end = datetime.max.replace(tzinfo=UTC)
        assert [found(Position(at, 9)) for at in (times[3], end)] == [[20, 30]] * 2
        assert found(Position(times[2], 3)) == [20]
        for place in (Position(times[1], 2), Position(datetime.min.replace(tzinfo=UTC), 0)):
            assert found(place) == []

    def test_of_a_busy_account_lose_no_line_between_two_slices(self, monkeypatch):
        """Each slice ends where the one before it began, though it is chosen by versions."""
        monkeypatch.setattr(_slices, "SLICE", 1)
        organization, (_, bob, bank, _) = create_books()
        times = [START + timedelta(days=20 * n) for n in range(3)]
        write_history(
            organization,
            [Move(bank, bob, 10, at + ahead, at) for at, ahead in zip(
                times, (-95 * HOUR, 95 * HOUR, 0 * HOUR), strict=True
            )],
        )  # fmt: skip
        found, place = [], Position(START + timedelta(days=50), 0)
        while place is not None:
            page = queries.get_statement(
                organization_id=organization, account_id=bob, since=START - timedelta(days=9),
                until=START + timedelta(days=50), ask=LinesAsked(5, before=place),
            )  # fmt: skip
            found = [
                (line.account_version, line.balance_after_minor) for line in page.lines
            ] + found
            place = page.previous

        assert found == [(1, 10), (2, 20), (3, 30)]

    def test_before_a_line_are_right_with_what_was_posted_meanwhile(self):
        organization, (ann, bob, *_) = create_books()
        fund(organization, ann, 100)
        # All of it lies in the past of the real clock, by which the engine posts.
        opens = clocks.now() - 10 * HOUR
        send = partial(post_transfer, organization, ann, bob)
        for n in (2, 4, 6):
            send(n, key=f"k{n}", effective_at=opens + n * HOUR)

        def read(**place):
            return queries.get_statement(
                organization_id=organization, account_id=ann, since=opens, until=opens + 9 * HOUR,
                ask=LinesAsked(1, **place),
            )  # fmt: skip

        def shown(page):
            return [(line.amount_minor, line.balance_after_minor) for line in page.lines]

        last = read(after=read(after=read().next).next)
        send(1, key="early", effective_at=opens + HOUR)
        send(3, key="between", effective_at=opens + 3 * HOUR)
        send(5, key="right before", effective_at=opens + 5 * HOUR)

        pages = [last]
        while pages[-1].previous is not None:
            pages.append(read(before=pages[-1].previous))

        opening = last.opening_minor
        assert shown(last) == [(6, opening - 12)]
        assert [shown(page) for page in pages[1:]] == [
            [(n, opening - sum(range(1, n + 1)))] for n in (5, 4, 3, 2, 1)
        ]

    def test_run_by_what_they_show_if_something_is_posted_while_they_are_read(self, monkeypatch):
        organization, (ann, bob, *_) = create_books()
        fund(organization, ann, 100)
        opens = clocks.now() - 10 * HOUR
        send = partial(post_transfer, organization, ann, bob)
        for n in (2, 4, 6):
            send(n, key=f"k{n}", effective_at=opens + n * HOUR)
        add_up, late = _statement.nets_of, iter(("late 1", "late 2"))

        def interrupted(*args, **asked):
            found = add_up(*args, **asked)
            key = next(late, None)
            if key is not None:
                posting = Asking(partial(send, 3, key=key, effective_at=opens + 3 * HOUR))
                assert posting.ended().answer.entry_id
            return found

        monkeypatch.setattr(_statement, "nets_of", interrupted)

        for place in ({}, {"before": Position(opens + 8 * HOUR, 0)}):
            page = queries.get_statement(
                organization_id=organization, account_id=ann, since=opens, until=opens + 9 * HOUR,
                ask=LinesAsked(9, **place),
            )  # fmt: skip
            running = page.opening_minor
            for line in page.lines:
                running -= line.amount_minor
                assert line.balance_after_minor == running
        assert balance(organization, ann).posted == 100 - 12 - 6

    @pytest.mark.parametrize("clock", CLOCKS)
    def test_ask_as_much_back_as_forth(self, clock):
        organization, (ann, _, bank, _) = create_books()
        times = [START + n * HOUR for n in range(4)]
        write_history(organization, [Move(bank, ann, 10, at, at) for at in times])

        def asked(**place):
            with CaptureQueriesContext(connection) as captured:
                queries.get_statement(
                    organization_id=organization, account_id=ann, since=START,
                    until=START + 9 * HOUR, clock=clock, ask=LinesAsked(2, **place),
                )  # fmt: skip
            return len(captured)

        assert asked() == asked(after=Position(times[1], 2)) == 3
        assert asked(before=Position(times[3], 4)) == 3


@pytest.fixture
def api():
    return TimedClient()


@pytest.fixture(params=["statement", "statement as recorded", "balances", "trial balance"])
def asked(request, api):
    """Name a path, a query of three lines, and what tells its lines apart."""
    statement = f"/v1/ledger-accounts/{printed(api.ann)}/statement"
    window = {"since": "2026-01-01T00:00:00Z", "until": "2026-08-01T00:00:00Z"}
    return {
        "statement": (statement, window, "version"),
        "statement as recorded": (statement, window | {"clock": "recorded"}, "version"),
        "balances": ("/v1/balances", {"at": "2026-08-01T00:00:00Z"}, "code"),
        "trial balance": ("/v1/trial-balance", {"at": "2026-08-01T00:00:00Z"}, "code"),
    }[request.param]


class TestCursors:
    def test_lead_back_and_forth(self, api, asked):
        path, query, name = asked

        def read(**place: str) -> dict:
            answer = api.get(path, **query, limit="1", **place)
            assert answer.status_code == 200, answer.content
            return answer.json()

        first = read()
        second = read(after=first["next"])
        third = read(after=second["next"])
        back = read(before=third["previous"])
        home = read(before=back["previous"])

        assert len({page["data"][0][name] for page in (first, second, third)}) == 3
        assert (back, home) == (second, first)
        assert first["previous"] is None

    def test_before_the_first_line_lead_to_an_empty_page(self, api, asked):
        path, query, _ = asked
        first = api.get(path, **query, limit="1").json()

        empty = api.get(path, **query, before=first["next"]).json()

        assert (empty["data"], empty["previous"]) == ([], None)
        assert {name: empty[name] for name in ("opening_balance", "totals") if name in empty} == {
            name: first[name] for name in ("opening_balance", "totals") if name in first
        }

    def test_both_ways_at_once_of_another_list_or_none_are_400(self, api, asked):
        path, query, _ = asked
        mine = api.get(path, **query, limit="1").json()["next"]
        accounts = api.get("/v1/ledger-accounts", limit="1").json()["next"]
        theirs = TimedClient()

        both = api.get(path, **query, after=mine, before=mine)

        assert code_of(both) == (400, "invalid_request")
        for cursor in ("", "x", accounts, mine[:-8] + "AAAAAAA="):
            assert code_of(api.get(path, **query, before=cursor)) == (400, "invalid_cursor")
        if "statement" not in path:
            assert code_of(theirs.get(path, **query, before=mine)) == (400, "invalid_cursor")

    def test_of_another_filter_are_400(self, api, asked):
        path, query, _ = asked
        other = {"kind": "fee"} if "statement" in path else {"code_prefix": "wallets"}
        mine = api.get(path, **query, limit="1").json()["next"]

        for way in ("after", "before"):
            refused = api.get(path, **query, **other, **{way: mine})
            assert code_of(refused) == (400, "invalid_cursor")

    @pytest.mark.parametrize("path", ["/v1/balances", "/v1/trial-balance"])
    def test_stay_where_they_are_when_accounts_are_opened(self, api, path):
        def codes(**place: str) -> list[str]:
            return [row["code"] for row in api.get(path, limit="2", **place).json()["data"]]

        first = api.get(path, limit="2").json()
        second = api.get(path, limit="2", after=first["next"]).json()
        assert [row["code"] for row in second["data"]] == ["wallets:ann:EUR", "wallets:bob:EUR"]
        for code in ("bank:a:EUR", "gifts:g:EUR", "wallets:aaa:EUR", "wallets:zoe:EUR"):
            account = open_account(api.organization, code, floor=None)
            post_transfer(api.organization, account, api.bob, 1, key=code)

        assert codes(after=first["next"]) == ["gifts:g:EUR", "wallets:aaa:EUR"]
        assert codes(before=second["previous"]) == ["gifts:g:EUR", "wallets:aaa:EUR"]
