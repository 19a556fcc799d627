"""Lists over the API, narrowed by what clients look for: accounts, holds, exchanges, transfers."""

from datetime import timedelta

import pytest
from django import test as django_test
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.core import clock
from apps.core.models import AuditEvent, OutboxEvent
from apps.core.wall_clock import print_instant
from apps.ledger.models import LedgerAccount
from tests.ledger.clients import SCOPES, ApiClient, code_of, pointers, printed
from tests.ledger.factories import fund, open_account

pytestmark = pytest.mark.django_db(transaction=True)


class Client(ApiClient):
    """A client whose every call has a key of its own, unless it names one."""

    def __init__(self) -> None:
        super().__init__(*SCOPES, "holds:write")
        self.count = 0

    def make(self, path: str, body: dict) -> dict:
        """Create something, and return it."""
        self.count += 1
        response = self.post(f"/v1/{path}", body, key=f"made-{self.count}")
        assert response.status_code == 201, response.content
        return response.json()

    def moved(self, amount: int, **more: object) -> dict[str, object]:
        return {
            "debit_account": printed(self.ann),
            "credit_account": printed(self.bob),
            "amount": amount,
            "currency": "EUR",
            **more,
        }

    def found(self, path: str, **query: str) -> list[dict]:
        response = self.get(f"/v1/{path}", **query)
        assert response.status_code == 200, response.content
        return response.json()["data"]


@pytest.fixture
def api():
    return Client()


def plans(calls) -> list[str]:
    """Return Postgres' plan of every read of these calls, a scan only where it has no other way."""
    with CaptureQueriesContext(connection) as captured:
        calls()
    reads = [one["sql"] for one in captured if one["sql"].lstrip().startswith(("SELECT", "WITH"))]
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        try:
            found = []
            for read in reads:
                cursor.execute(f"EXPLAIN {read}")
                found.append("\n".join(row[0] for row in cursor.fetchall()))
        finally:
            cursor.execute("RESET enable_seqscan")
    return found


class TestAccountMetadata:
    def body(self, **more):
        return {"code": "shops:s_1:EUR", "type": "liability", "currency": "EUR", **more}

    def test_is_given_shown_replayed_and_changed_as_a_whole(self, api):
        body = self.body(metadata={"plan": "gold", "city": "Kiel"})

        opened = api.post("/v1/ledger-accounts", body, key="a")
        again = api.post("/v1/ledger-accounts", body, key="a")
        path = f"/v1/ledger-accounts/{opened.json()['id']}"
        changed = api.post(path, {"metadata": {"plan": "tin"}, "reason": "Moved away"}, key="b")
        replay = api.post(path, {"metadata": {"plan": "tin"}, "reason": "Moved away"}, key="b")

        assert (opened.status_code, again.json()) == (201, opened.json())
        assert opened.json()["metadata"] == {"plan": "gold", "city": "Kiel"}
        assert (changed.status_code, replay.json()) == (200, changed.json())
        assert api.get(path).json() == opened.json() | {"metadata": {"plan": "tin"}}
        [audited] = AuditEvent.objects.filter(act="ledger.change_account")
        # Which keys there were, and not what a client wrote under them.
        assert audited.before["metadata_keys"] == ["city", "plan"]
        assert audited.after["metadata_keys"] == ["plan"]
        [event] = OutboxEvent.objects.filter(type="ledger_account.changed")
        assert (event.data["status"], event.data["min_available"]) == ("open", 0)

    def test_that_is_the_same_already_changes_nothing(self, api):
        made = api.make("ledger-accounts", self.body(metadata={"plan": "gold"}))

        same = api.post(
            f"/v1/ledger-accounts/{made['id']}",
            {"metadata": {"plan": "gold"}, "reason": "Again"},
        )

        assert same.json() == made
        assert not AuditEvent.objects.filter(act="ledger.change_account").exists()

    def test_stays_where_something_else_is_changed_and_goes_where_it_is_asked_to(self, api):
        made = api.make("ledger-accounts", self.body(metadata={"plan": "gold"}))
        path = f"/v1/ledger-accounts/{made['id']}"

        frozen = api.post(path, {"status": "frozen", "reason": "Asked by the bank"}, key="1")
        emptied = api.post(path, {"metadata": {}, "reason": "Not needed"}, key="2")

        assert (frozen.json()["status"], frozen.json()["metadata"]) == ("frozen", {"plan": "gold"})
        assert (emptied.json()["status"], emptied.json()["metadata"]) == ("frozen", {})

    def test_makes_another_request_of_the_same_key(self, api):
        api.post("/v1/ledger-accounts", self.body(), key="a")

        reused = api.post("/v1/ledger-accounts", self.body(metadata={"plan": "gold"}), key="a")

        assert code_of(reused) == (422, "idempotency_key_reused")

    @pytest.mark.parametrize(
        ("metadata", "pointer"),
        [
            ([], "/metadata"),
            ({"a": 1}, "/metadata/a"),
            ({"k" * 41: "v"}, "/metadata"),
            ({"": "v"}, "/metadata"),
            ({"a": "v" * 501}, "/metadata/a"),
            ({f"k{n}": "v" for n in range(51)}, "/metadata"),
        ],
    )
    def test_beyond_its_limits_is_400_and_opens_and_changes_nothing(self, api, metadata, pointer):
        opened = api.post("/v1/ledger-accounts", self.body(metadata=metadata))
        changed = api.post(
            f"/v1/ledger-accounts/{printed(api.ann)}", {"metadata": metadata, "reason": "x"}
        )

        assert (code_of(opened), pointers(opened)) == ((400, "invalid_request"), [pointer])
        assert (code_of(changed), pointers(changed)) == ((400, "invalid_request"), [pointer])
        assert not LedgerAccount.objects.filter(code="shops:s_1:EUR").exists()
        assert LedgerAccount.objects.get(id=api.ann).metadata == {}


class TestAccounts:
    @pytest.fixture
    def api(self, api):
        for code, type_, metadata in [
            ("shops:north:EUR", "liability", {"plan": "gold", "city": "Kiel"}),
            ("shops:north:till", "asset", {"plan": "gold"}),
            ("shops:northern:USD", "liability", {"plan": "tin"}),
            ("shops_old:EUR", "expense", {}),
        ]:
            currency = code[-3:] if code[-3:].isupper() else "EUR"
            api.make(
                "ledger-accounts",
                {"code": code, "type": type_, "currency": currency, "metadata": metadata},
            )
        return api

    def codes(self, api, **query: str) -> list[str]:
        return sorted(row["code"] for row in api.found("ledger-accounts", **query))

    @pytest.mark.parametrize(
        ("query", "codes"),
        [
            ({"type": "asset"}, ["bank:ba_1:EUR", "shops:north:till"]),
            ({"type": "expense", "currency": "EUR"}, ["shops_old:EUR"]),
            ({"currency": "USD"}, ["shops:northern:USD"]),
            ({"status": "frozen"}, ["wallets:bob:EUR"]),
            ({"status": "open", "code_prefix": "wallets"}, ["wallets:ann:EUR"]),
            ({"metadata[plan]": "gold"}, ["shops:north:EUR", "shops:north:till"]),
            ({"metadata[plan]": "gold", "metadata[city]": "Kiel"}, ["shops:north:EUR"]),
            ({"metadata[plan]": "Kiel"}, []),
            ({"code": "shops_old:EUR"}, ["shops_old:EUR"]),
        ],
    )
    def test_are_narrowed_to_what_matches_all_that_is_asked(self, api, query, codes):
        api.post(f"/v1/ledger-accounts/{printed(api.bob)}", {"status": "frozen", "reason": "Asked"})

        assert self.codes(api, **query) == codes

    @pytest.mark.parametrize(
        ("prefix", "codes"),
        [
            ("shops", ["shops:north:EUR", "shops:north:till", "shops:northern:USD"]),
            ("shops:", ["shops:north:EUR", "shops:north:till", "shops:northern:USD"]),
            ("shops:north", ["shops:north:EUR", "shops:north:till"]),
            ("shops:north:EUR", ["shops:north:EUR"]),
            ("shop", []),
            ("shops%", []),
        ],
    )
    def test_of_a_branch_are_those_that_balances_are_read_of(self, api, prefix, codes):
        assert self.codes(api, code_prefix=prefix) == codes
        balances = api.found("balances", code_prefix=prefix)
        assert sorted(row["code"] for row in balances) == codes

    @pytest.mark.parametrize(
        "query",
        [
            {"type": "wallet"},
            {"status": "shut"},
            {"currency": "eur"},
            {"code_prefix": ""},
            {"colour": "red"},
            {"metadata": "gold"},
            {"metadata[]": "gold"},
            {"metadata[plan]": "x" * 501},
            {f"metadata[{'k' * 41}]": "x"},
            {f"metadata[k{n}]": "x" for n in range(11)},
        ],
    )
    def test_asked_for_wrongly_are_400(self, api, query):
        assert code_of(api.get("/v1/ledger-accounts", **query)) == (400, "invalid_request")

    def test_of_another_organization_are_not_found_by_anything(self, api):
        other = Client()

        for query in ({"metadata[plan]": "gold"}, {"code_prefix": "shops"}, {"currency": "USD"}):
            assert other.found("ledger-accounts", **query) == []


class TestHolds:
    @pytest.fixture
    def api(self, api):
        api.till = open_account(api.organization, "shop:till:EUR", type_="asset")
        api.cash = open_account(api.organization, "shop:cash:EUR", type_="asset", floor=None)
        api.make("transfers", api.moved(10_00) | {"debit_account": printed(api.till),
                 "credit_account": printed(api.cash)})  # fmt: skip
        api.placed = [
            api.make("holds", api.moved(1, reference="order-1", metadata={"shelf": "12"})),
            api.make("holds", api.moved(2, reference="order-2", metadata={"shelf": "14"})),
            # Money of an asset leaves it by a credit.
            api.make(
                "holds",
                api.moved(3)
                | {"debit_account": printed(api.cash), "credit_account": printed(api.till)},
            ),
        ]
        api.post(f"/v1/holds/{api.placed[1]['hold']['id']}/void", {}, key="void")
        return api

    @pytest.mark.parametrize(
        ("query", "amounts"),
        [
            ({}, [3, 2, 1]),
            ({"status": "open"}, [3, 1]),
            ({"status": "voided"}, [2]),
            ({"status": "expired"}, []),
            ({"reference": "order-2"}, [2]),
            ({"metadata[shelf]": "12"}, [1]),
            ({"metadata[shelf]": "12", "status": "voided"}, []),
        ],
    )
    def test_are_narrowed_to_what_matches_all_that_is_asked(self, api, query, amounts):
        assert [hold["amount"] for hold in api.found("holds", **query)] == amounts

    def test_of_an_account_are_those_on_its_own_money(self, api):
        def amounts(account) -> list[int]:
            found = api.found("holds", ledger_account=printed(account))
            return [hold["amount"] for hold in found]

        assert (amounts(api.ann), amounts(api.bob)) == ([2, 1], [])
        assert (amounts(api.till), amounts(api.cash)) == ([3], [])

    def test_of_an_account_are_those_whose_money_would_come_to_it(self, api):
        def amounts(account, direction, **query) -> list[int]:
            found = api.found(
                "holds", ledger_account=printed(account), direction=direction, **query
            )
            return [hold["amount"] for hold in found]

        assert (amounts(api.ann, "in"), amounts(api.bob, "in")) == ([], [2, 1])
        # Money of an asset comes to it by a debit.
        assert (amounts(api.till, "in"), amounts(api.cash, "in")) == ([], [3])
        assert (amounts(api.ann, "out"), amounts(api.till, "out")) == ([2, 1], [3])
        assert amounts(api.bob, "in", status="voided", reference="order-2") == [2]
        assert amounts(api.bob, "in", **{"metadata[shelf]": "12"}) == [1]

    @pytest.mark.parametrize("name", ["ann", "bob", "till", "cash"])
    def test_that_are_open_come_to_what_is_pending(self, api, name):
        account = printed(getattr(api, name))

        shown = api.get(f"/v1/ledger-accounts/{account}").json()

        for direction in ("out", "in"):
            found = api.found("holds", ledger_account=account, direction=direction, status="open")
            assert sum(hold["remaining"] for hold in found) == shown[f"pending_{direction}"]

    def test_of_a_direction_are_walked_both_ways(self, api):
        for amount in (4, 5, 6):
            api.make("holds", api.moved(amount))
        query = {"ledger_account": printed(api.bob), "direction": "in", "limit": "2"}
        forth = [api.get("/v1/holds", **query).json()]
        while forth[-1]["next"]:
            forth.append(api.get("/v1/holds", **query, after=forth[-1]["next"]).json())
        back = forth[-1:]
        while back[-1]["previous"]:
            back.append(api.get("/v1/holds", **query, before=back[-1]["previous"]).json())

        pages = [[hold["amount"] for hold in page["data"]] for page in forth]
        assert pages == [[6, 5], [4, 2], [1]]
        assert [[hold["amount"] for hold in page["data"]] for page in back] == pages[::-1]

    def test_of_a_window_are_those_placed_from_its_begin_on_and_before_its_end(self, api):
        instants = [hold["hold"]["created_at"] for hold in api.placed]

        found = api.found("holds", created_from=instants[1], created_before=instants[2])

        assert [hold["amount"] for hold in found] == [2]

    @pytest.mark.parametrize(
        "query",
        [
            {"status": "held"},
            {"ledger_account": "la_x"},
            {"reference": ""},
            {"direction": "in"},
            {"created_from": "yesterday"},
            {"created_from": "2026-02-01T00:00:00Z", "created_before": "2026-01-01T00:00:00Z"},
            {"metadata[]": "12"},
            {"colour": "red"},
        ],
    )
    def test_asked_for_wrongly_are_400(self, api, query):
        assert code_of(api.get("/v1/holds", **query)) == (400, "invalid_request")

    @pytest.mark.parametrize("direction", ["", "IN", "both", "in,out"])
    def test_of_a_direction_that_is_none_are_400(self, api, direction):
        refused = api.get("/v1/holds", ledger_account=printed(api.bob), direction=direction)

        assert code_of(refused) == (400, "invalid_request")

    def test_of_an_account_of_another_organization_are_404(self, api):
        other = Client()

        for direction in ("out", "in"):
            refused = other.get("/v1/holds", ledger_account=printed(api.bob), direction=direction)
            assert code_of(refused) == (404, "ledger_account_not_found")

    def test_of_another_organization_are_not_found_by_anything(self, api):
        other = Client()

        for query in (
            {},
            {"reference": "order-1"},
            {"metadata[shelf]": "12"},
        ):
            assert other.found("holds", **query) == []


class TestExchanges:
    @pytest.fixture
    def api(self, api):
        for currency in ("USD", "GBP"):
            setattr(api, currency, open_account(api.organization, f"wallets:ann:{currency}"))
        fund(api.organization, api.USD, 100_00, "USD")
        api.made = [
            self.exchanged(
                api,
                (api.ann, "EUR"),
                (api.USD, "USD"),
                reference="trip-1",
                metadata={"trip": "NY", "leg": "1"},
            ),
            self.exchanged(api, (api.USD, "USD"), (api.GBP, "GBP"), metadata={"trip": "NY"}),
            self.exchanged(api, (api.USD, "USD"), (api.GBP, "GBP")),
        ]
        return api

    def exchanged(self, api, sold, bought, **more):
        return api.make(
            "fx-transfers",
            {
                "from_account": printed(sold[0]),
                "to_account": printed(bought[0]),
                "amount": 10_00,
                "currency": sold[1],
                "bought_currency": bought[1],
                "rate": "1.1",
                "source": "ecb",
                "quoted_at": print_instant(clock.now()),
                **more,
            },
        )

    def test_are_narrowed_by_either_currency_and_by_both_clocks(self, api):
        first, second, third = (made["id"] for made in api.made)

        def ids(**query: str) -> list[str]:
            return [row["id"] for row in api.found("fx-transfers", **query)]

        assert ids(currency="USD") == [third, second, first]
        assert (ids(currency="GBP"), ids(currency="EUR")) == ([third, second], [first])
        assert ids(currency="JPY") == []
        assert ids(created_from=api.made[1]["created_at"]) == [third, second]
        assert ids(created_before=api.made[1]["created_at"]) == [first]
        assert ids(effective_from=api.made[1]["effective_at"]) == [third, second]
        assert ids(effective_before=api.made[0]["effective_at"]) == []
        assert ids(currency="USD", reference="trip-1") == [first]

    def test_are_found_by_what_was_said_of_them(self, api):
        first, second, _ = (made["id"] for made in api.made)

        def ids(**query: str) -> list[str]:
            return [row["id"] for row in api.found("fx-transfers", **query)]

        assert ids(**{"metadata[trip]": "NY"}) == [second, first]
        assert ids(**{"metadata[trip]": "NY", "metadata[leg]": "1"}) == [first]
        assert ids(**{"metadata[trip]": "NY", "currency": "GBP"}) == [second]
        assert ids(**{"metadata[trip]": "LA"}) == ids(**{"metadata[other]": "NY"}) == []
        page = api.get("/v1/fx-transfers", limit="1", **{"metadata[trip]": "NY"}).json()
        assert ids(after=page["next"], **{"metadata[trip]": "NY"}) == [first]

    @pytest.mark.parametrize(
        "query",
        [{"currency": "usd"}, {"created_from": "now"}, {"reference": ""}, {"metadata[]": "b"}],
    )
    def test_asked_for_wrongly_are_400(self, api, query):
        assert code_of(api.get("/v1/fx-transfers", **query)) == (400, "invalid_request")

    def test_of_another_organization_are_not_found_by_anything(self, api):
        assert Client().found("fx-transfers", currency="USD") == []
        assert Client().found("fx-transfers", **{"metadata[trip]": "NY"}) == []


class TestTransfers:
    @pytest.fixture
    def api(self, api):
        api.cat = open_account(api.organization, "wallets:cat:EUR")
        [api.funding] = api.found("transfers")
        api.made = [
            api.make("transfers", api.moved(30_00, reference="r-1", metadata={"shelf": "12"})),
            api.make("transfers", api.moved(20_00, credit_account=printed(api.cat))),
            api.make("transfers", api.moved(5_00, effective_at="2026-11-20T10:00:00Z")),
        ]
        # Neither of these is a transfer.
        api.make(
            "journal-entries",
            {
                "postings": [
                    {"ledger_account": printed(api.ann), "amount": 1, "currency": "EUR"},
                    {"ledger_account": printed(api.bob), "amount": -1, "currency": "EUR"},
                ],
                "metadata": {"shelf": "12"},
            },
        )
        api.make(f"journal-entries/{api.made[2]['id']}/reversal", {})
        return api

    def ids(self, api, **query: str) -> list[str]:
        return [row["id"] for row in api.found("transfers", **query)]

    def test_are_listed_newest_first_as_each_is_read_by_itself(self, api):
        listed = api.found("transfers")

        assert [row["id"] for row in listed] == [
            *(made["id"] for made in reversed(api.made)),
            api.funding["id"],
        ]
        assert listed == [api.get(f"/v1/transfers/{row['id']}").json() for row in listed]

    def test_are_paged_both_ways(self, api):
        newest = [made["id"] for made in reversed(api.made)] + [api.funding["id"]]

        first = api.get("/v1/transfers", limit="2").json()
        second = api.get("/v1/transfers", limit="2", after=first["next"]).json()
        back = api.get("/v1/transfers", limit="2", before=second["previous"]).json()

        assert [row["id"] for row in first["data"]] == newest[:2]
        assert [row["id"] for row in second["data"]] == newest[2:]
        assert (first["has_more"], second["has_more"], second["next"]) == (True, False, None)
        assert back["data"] == first["data"]

    def test_are_narrowed_to_what_matches_all_that_is_asked(self, api):
        first, second, third = (made["id"] for made in api.made)

        assert self.ids(api, ledger_account=printed(api.cat)) == [second]
        brought = api.funding["id"]
        assert self.ids(api, ledger_account=printed(api.ann)) == [third, second, first, brought]
        both = {"amount_min": "2000", "amount_max": "3000"}
        assert self.ids(api, ledger_account=printed(api.ann), **both) == [second, first]
        assert self.ids(api, reference="r-1") == [first]
        assert self.ids(api, **{"metadata[shelf]": "12"}) == [first]
        day = {"effective_from": "2026-11-20T00:00:00Z", "effective_before": "2026-11-21T00:00:00Z"}
        assert self.ids(api, **day) == [third]
        assert self.ids(api, **day, amount="500") == [third]
        assert self.ids(api, **day, amount="501") == []
        assert self.ids(api, reference="r-1", ledger_account=printed(api.cat)) == []

    @pytest.mark.parametrize(
        "query",
        [
            {"kind": "transfer"},
            {"amount": "500"},
            {"amount": "5.00", "ledger_account": "la_01kb1mzxe5f0q8w3v6y2n4r7ta"},
            {"created_from": "yesterday"},
            {"limit": "101"},
            {"colour": "red"},
        ],
    )
    def test_asked_for_wrongly_are_400(self, api, query):
        assert code_of(api.get("/v1/transfers", **query)) == (400, "invalid_request")

    def test_of_a_malformed_account_are_400(self, api):
        refused = api.get("/v1/transfers", ledger_account="la_x")

        assert code_of(refused) == (400, "malformed_id")

    def test_take_no_cursor_of_another_list_or_order(self, api):
        cursor = api.get("/v1/transfers", limit="1").json()["next"]
        entries = api.get("/v1/journal-entries", limit="1").json()["next"]

        for query in (
            {"after": entries},
            {"after": "x"},
            {"after": cursor, "ledger_account": printed(api.ann)},
        ):
            assert code_of(api.get("/v1/transfers", **query)) == (400, "invalid_cursor")

    def test_are_asked_for_by_their_head(self, api):
        headed = django_test.Client(headers=api.headers).head("/v1/transfers")

        assert (headed.status_code, headed.content) == (200, b"")

    def test_need_the_scope_that_reads(self):
        api = ApiClient("transfers:write")

        assert code_of(api.get("/v1/transfers")) == (403, "insufficient_scope")

    def test_of_another_organization_are_not_found_by_anything(self, api):
        other = Client()

        for query in ({"reference": "r-1"}, {"metadata[shelf]": "12"}):
            assert api.found("transfers", **query) != other.found("transfers", **query) == []
        [own] = other.found("transfers")
        assert own["credit_account"] == printed(other.ann)

    def test_of_a_page_are_read_by_as_many_statements_as_one_of_them(self, api):
        with CaptureQueriesContext(connection) as one:
            api.found("transfers", limit="1")
        with CaptureQueriesContext(connection) as all_of_them:
            api.found("transfers", limit="3")

        assert len(all_of_them) == len(one)


class TestPlans:
    def test_of_every_filter_find_an_index(self, api):
        now = clock.now()
        window = {"created_from": print_instant(now - timedelta(days=1)),
                  "created_before": print_instant(now)}  # fmt: skip
        asked = [
            ("transfers", {}),
            ("transfers", {"ledger_account": printed(api.ann)}),
            ("transfers", {"reference": "r-1"}),
            ("transfers", {"metadata[a]": "b"}),
            ("transfers", {"amount": "500", **window}),
            ("ledger-accounts", {"type": "asset", "currency": "EUR", "status": "open"}),
            ("ledger-accounts", {"code_prefix": "wallets"}),
            ("ledger-accounts", {"metadata[a]": "b"}),
            ("holds", {"ledger_account": printed(api.ann), "status": "open"}),
            ("holds", {"ledger_account": printed(api.bob), "direction": "in"}),
            ("holds", {"ledger_account": printed(api.bob), "direction": "in", "status": "open"}),
            ("holds", {"reference": "r-1"}),
            ("holds", {"metadata[a]": "b"}),
            ("holds", window),
            ("fx-transfers", {"currency": "EUR", **window}),
            ("fx-transfers", {"metadata[a]": "b"}),
        ]
        api.make("transfers", api.moved(5_00, reference="r-1", metadata={"a": "b"}))

        for path, query in asked:
            found = plans(lambda path=path, query=query: api.found(path, **query))
            assert found
            assert not [plan for plan in found if "Seq Scan on ledger_" in plan], (path, query)
