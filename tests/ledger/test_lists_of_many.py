"""Lists by the time of making, and exchanges of an account, read no more than their page."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection

from apps.core import clock
from apps.core.ids import encode_id
from apps.core.wall_clock import print_instant
from apps.ledger import operations, queries
from apps.ledger.models import BalanceMonitor
from apps.ledger.operations import FxRequest, HoldRequest
from tests.ledger.clients import ApiClient, code_of, printed
from tests.ledger.factories import ACTOR, fund, open_account
from tests.support import rows_read

pytestmark = pytest.mark.django_db(transaction=True)

# One a minute, but for the second tenth, which were made at one instant, as an import makes them.
MANY = 20_000
READ_MOST = 60

_MADE_AT = "now() - (CASE WHEN n * 10 / {many} = 1 THEN {many} / 10 ELSE n END) * interval '1 min'"


def multiply(table: str, id_, **columns: str) -> None:
    """Write MANY rows like one, each made a minute before the last; these columns by their SQL."""
    told = {
        "id": "uuidv7(-n * interval '1 min')",
        "created_at": _MADE_AT.format(many=MANY),
        **columns,
    }
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s", [table]
        )
        names = [name for (name,) in cursor.fetchall()]
        values = [told.get(name, f"one.{name}") for name in names]
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)}"
            f" FROM {table} AS one, generate_series(1, {MANY}) AS n WHERE one.id = %s",
            [id_],
        )
        # Of all tables: one that is joined, and was counted while it was empty, turns plans.
        cursor.execute("ANALYZE")


class Client(ApiClient):
    def page(self, path: str, table: str, **query: str) -> dict:
        """Return a page that read few rows, however many there are."""
        before = rows_read(table)
        answer = self.get(f"/v1/{path}", limit="10", **query)
        assert answer.status_code == 200, answer.content
        assert rows_read(table) - before <= READ_MOST, query
        return answer.json()

    def walked(self, path: str, table: str, *, pages: int, **query: str) -> list[dict]:
        """Return the rows of the first pages, which are the same ones on the way back."""
        forth = [self.page(path, table, **query)]
        while len(forth) < pages and forth[-1]["next"] is not None:
            forth.append(self.page(path, table, **query, after=forth[-1]["next"]))
        back = forth[-1:]
        while back[-1]["previous"] is not None:
            back.append(self.page(path, table, **query, before=back[-1]["previous"]))
        assert [page["data"] for page in back[::-1]] == [page["data"] for page in forth]
        return [row for page in forth for row in page["data"]]


@pytest.fixture
def api() -> Client:
    return Client()


def ages(share_from: float, share_before: float, *, name: str = "created") -> dict[str, str]:
    """Return the window of what is between so much and so much of the whole history old."""
    now, whole = clock.now(), timedelta(minutes=MANY)
    return {
        f"{name}_from": print_instant(now - share_from * whole),
        f"{name}_before": print_instant(now - share_before * whole),
    }


# Few or most of them, of late or long ago, and those that were made at one instant.
WINDOWS = [(0.001, -1), (1.1, 0.999), (0.502, 0.5), (1.1, 0.5), (0.9, 0.3), (0.15, 0.1)]


class TestByTheTimeOfMaking:
    def assert_read_alone(self, api: Client, path: str, table: str, name: str = "created") -> None:
        for window in WINDOWS:
            asked = ages(*window, name=name)
            rows = api.walked(path, table, pages=4, **asked)
            keys = [(row[f"{name}_at"], row["id"]) for row in rows]
            assert keys, asked
            assert len(set(keys)) == len(keys), asked
            assert keys == sorted(keys, reverse=True), asked
            since, before = asked[f"{name}_from"], asked[f"{name}_before"]
            assert all(since <= at < before for at, _ in keys), asked

    def test_accounts_are_read_alone(self, api):
        code = "'shops:n' || n || ':EUR'"
        multiply("ledger_account", api.bob, code=code)
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO ledger_balance (id, organization_id, currency, credit_normal,"
                " internal, status, posted_debits, posted_credits, pending_debits,"
                " pending_credits, version, monitored)"
                " SELECT id, organization_id, currency, true, false, 'open',"
                " 0, 0, 0, 0, 0, false FROM ledger_account WHERE code LIKE 'shops:%'"
            )
            cursor.execute("ANALYZE ledger_balance")

        self.assert_read_alone(api, "ledger-accounts", "ledger_account")

    def test_monitors_are_read_alone(self, api):
        multiply("ledger_balance_monitor", monitored(api), is_active="false")

        self.assert_read_alone(api, "balance-monitors", "ledger_balance_monitor")

    def test_holds_are_read_alone(self, api):
        multiply("ledger_hold", placed(api), status="'voided'")

        self.assert_read_alone(api, "holds", "ledger_hold")

    @pytest.mark.parametrize("name", ["created", "effective"])
    def test_exchanges_are_read_alone(self, api, name):
        """By the clock that is asked for, where the other one is of all at once."""
        columns = {"created_at": "one.created_at", f"{name}_at": _MADE_AT.format(many=MANY)}
        multiply("ledger_fx_transfer", Exchanges(api).other, **columns)

        self.assert_read_alone(api, "fx-transfers", "ledger_fx_transfer", name)


def placed(api: Client, *, times: int = 1):
    hold = HoldRequest(
        debit_account_id=api.ann, credit_account_id=api.bob, amount_minor=5, currency="EUR"
    )
    made = [
        operations.place_hold(
            organization_id=api.organization, hold=hold, idempotency_key=f"h-{number}",
            actor=ACTOR, now=clock.now(),
        )
        for number in range(times)
    ]  # fmt: skip
    return made[-1].hold_id


def monitored(api: Client):
    body = {
        "ledger_account": printed(api.ann), "measure": "available", "direction": "below",
        "threshold": 5,
    }  # fmt: skip
    made = api.post("/v1/balance-monitors", body, key="m-1")
    assert made.status_code == 201, made.content
    return BalanceMonitor.objects.get().id


class Exchanges:
    """Ann buys dollars, and sells some; everybody else changes pounds into francs."""

    def __init__(self, api: Client) -> None:
        self.api = api
        self.usd, self.gbp, self.chf = (
            open_account(api.organization, f"wallets:ann:{name}") for name in ("USD", "GBP", "CHF")
        )
        fund(api.organization, self.gbp, 100_00, "GBP")
        self.bought = self.change((api.ann, "EUR"), (self.usd, "USD"), "1")
        self.sold = self.change((self.usd, "USD"), (api.ann, "EUR"), "2")
        self.other = self.change((self.gbp, "GBP"), (self.chf, "CHF"), "3")

    def change(self, sold, bought, key: str, *, at: datetime | None = None):
        now = clock.now()
        fx = FxRequest(
            from_account_id=sold[0], to_account_id=bought[0], sold_minor=100,
            sold_currency=sold[1], bought_currency=bought[1], rate=Decimal(1), source="ecb",
            quoted_at=now, effective_at=at,
        )  # fmt: skip
        made = operations.exchange(
            organization_id=self.api.organization, fx=fx, idempotency_key=key, actor=ACTOR, now=now
        )
        return made.fx_transfer_id


class TestExchangesOfAnAccount:
    def ids(self, api, **query: str) -> list[str]:
        return [row["id"] for row in api.get("/v1/fx-transfers", **query).json()["data"]]

    def test_are_those_on_either_of_its_sides(self, api):
        made = Exchanges(api)
        bought, sold, other = (encode_id("fx", id_) for id_ in (made.bought, made.sold, made.other))

        assert self.ids(api, ledger_account=printed(made.usd)) == [sold, bought]
        assert self.ids(api, ledger_account=printed(api.ann)) == [sold, bought]
        assert self.ids(api, ledger_account=printed(made.chf)) == [other]
        assert self.ids(api, ledger_account=printed(api.bob)) == []
        assert self.ids(api, ledger_account=printed(made.usd), currency="GBP") == []

    def test_of_nobody_or_somebody_else_are_not_found(self, api):
        theirs = Client()

        answer = api.get("/v1/fx-transfers", ledger_account=printed(theirs.ann))
        malformed = api.get("/v1/fx-transfers", ledger_account="la_x")

        assert code_of(answer) == (404, "ledger_account_not_found")
        assert malformed.status_code == 400

    @pytest.mark.parametrize("share", [1, 1000])
    def test_are_read_alone(self, api, share):
        """Many of its own, long before those of others, and few of its own among many others."""
        made = Exchanges(api)

        def own_or(side: str, other) -> dict[str, str]:
            return {side: f"CASE WHEN n %% {share} = 0 THEN one.{side} ELSE '{other}' END"}

        for id_ in (made.bought, made.sold):
            columns = own_or("from_account_id", made.gbp) | own_or("to_account_id", made.chf)
            columns["id"] = f"uuidv7(-(n + {MANY}) * interval '1 min')"
            multiply("ledger_fx_transfer", id_, **columns)
        multiply("ledger_fx_transfer", made.other)

        rows = api.walked(
            "fx-transfers", "ledger_fx_transfer", pages=4, ledger_account=printed(made.usd)
        )

        assert len(rows) == 40
        assert [row["id"] for row in rows] == sorted((row["id"] for row in rows), reverse=True)
        sides = {(row["from_account"], row["to_account"]) for row in rows}
        assert sides == {
            (printed(api.ann), printed(made.usd)), (printed(made.usd), printed(api.ann)),
        }  # fmt: skip


LONG_AGO = "2026-01-01T00:00:00Z"
PATHS = ["ledger-accounts", "balance-monitors", "holds", "fx-transfers"]


def cursor(api: Client, path: str, **query: str) -> str:
    answer = api.get(f"/v1/{path}", limit="1", **query)
    return answer.json()["next"]


class TestWindows:
    @pytest.mark.parametrize("path", PATHS)
    def test_are_from_an_instant_on_and_before_another(self, api, path):
        monitored(api)
        placed(api)
        Exchanges(api)
        api.post(
            "/v1/ledger-accounts",
            {"code": "shops:s_1:EUR", "type": "liability", "currency": "EUR"},
        )
        [row] = api.get(f"/v1/{path}", limit="1").json()["data"]
        at = row["created_at"]

        def ids(**query: str) -> list[str]:
            return [one["id"] for one in api.get(f"/v1/{path}", **query).json()["data"]]

        assert ids(created_from=at) == [row["id"]]
        assert row["id"] not in ids(created_before=at)
        assert ids(created_from=at, created_before=at) == []
        assert len(ids(created_from="2026-01-01T00:00:00Z")) == len(ids())

    @pytest.mark.parametrize("path", PATHS)
    @pytest.mark.parametrize(
        "query",
        [
            {"created_from": "yesterday"},
            {"created_before": ""},
            {"created_from": "2026-02-01T00:00:00Z", "created_before": "2026-01-01T00:00:00Z"},
        ],
    )
    def test_asked_for_wrongly_are_400(self, api, path, query):
        assert code_of(api.get(f"/v1/{path}", **query)) == (400, "invalid_request")

    @pytest.mark.parametrize("path", ["ledger-accounts", "holds", "fx-transfers"])
    def test_take_no_cursor_of_the_list_without_one_nor_give_it_one(self, api, path):
        Exchanges(api)
        placed(api, times=2)
        window = {"created_from": "2026-01-01T00:00:00Z"}
        plain, timed = cursor(api, path), cursor(api, path, **window)

        for way in ("after", "before"):
            for query in ({way: plain} | window, {way: timed}):
                refused = api.get(f"/v1/{path}", **query)
                assert code_of(refused) == (400, "invalid_cursor")
            assert api.get(f"/v1/{path}", **window, **{way: timed}).status_code == 200

    def test_of_two_clocks_take_no_cursor_of_each_other(self, api):
        Exchanges(api)
        recorded, effective = {"created_from": LONG_AGO}, {"effective_from": LONG_AGO}

        def code(cursor: str, **query: str) -> int:
            return api.get("/v1/fx-transfers", after=cursor, **query).status_code

        of_recorded = cursor(api, "fx-transfers", **recorded)
        of_effective = cursor(api, "fx-transfers", **effective)

        assert (code(of_recorded, **recorded), code(of_recorded, **effective)) == (200, 400)
        assert (code(of_effective, **effective), code(of_effective, **recorded)) == (200, 400)
        # A list of both windows is sorted by the effective one.
        both = recorded | effective
        assert (code(of_effective, **both), code(of_recorded, **both)) == (200, 400)

    def test_of_both_clocks_are_sorted_by_the_effective_one(self, api):
        made = Exchanges(api)
        earlier = made.change(
            (api.ann, "EUR"), (made.usd, "USD"), "4", at=clock.now() - timedelta(hours=1)
        )
        both = {"created_from": LONG_AGO, "effective_from": LONG_AGO}

        def ids(**query: str) -> list[str]:
            return [row["id"] for row in api.get("/v1/fx-transfers", **query).json()["data"]]

        assert ids(created_from=LONG_AGO)[0] == encode_id("fx", earlier)
        assert ids(effective_from=LONG_AGO)[-1] == ids(**both)[-1] == encode_id("fx", earlier)

    def test_of_an_account_stay_in_the_order_of_its_index(self, api):
        made, window = Exchanges(api), {"created_from": LONG_AGO}
        placed(api, times=2)

        for path, account in (("holds", api.ann), ("fx-transfers", made.usd)):
            own = {"ledger_account": printed(account)}
            assert api.get(f"/v1/{path}", **own, **window).json() == (
                api.get(f"/v1/{path}", **own).json()
            )
            plain = cursor(api, path, **own)
            assert api.get(f"/v1/{path}", **own, **window, after=plain).status_code == 200

    def test_of_another_organization_hold_nothing(self, api):
        theirs = Client()
        window = {"created_from": "2026-01-01T00:00:00Z"}

        found = theirs.get("/v1/ledger-accounts", **window).json()["data"]

        mine = {
            encode_id("la", row.id) for row in queries.accounts(organization_id=api.organization)
        }
        assert found
        assert not mine & {row["id"] for row in found}
