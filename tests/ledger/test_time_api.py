"""Balances as of an instant, statements, periods and trial balances over HTTP."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import connection

from apps.accounts.api.authentication import forget_cached_keys
from apps.approvals import operations as approvals
from apps.approvals.models import ApprovalRequest
from apps.approvals.states import Verdict
from apps.core import clock
from apps.core.ids import decode_id
from apps.ledger import operations, queries
from tests.accounts.factories import create_organization, issue_key
from tests.ledger.clients import SCOPES, ApiClient, code_of, printed
from tests.ledger.factories import fund, open_account, post_transfer
from tests.ledger.histories import Move, seal, write_history
from tests.payouts import people
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

MAY = datetime(2026, 5, 31, 12, tzinfo=UTC)
JUNE = datetime(2026, 6, 15, 12, tzinfo=UTC)
LATE = datetime(2026, 6, 30, 12, tzinfo=UTC)
JULY = datetime(2026, 7, 1, 9, tzinfo=UTC)


class TimedClient(ApiClient):
    """A bank and two wallets; 100.00 came in May, 30.00 moved in June, 5.00 late for June."""

    def __init__(self, *scopes: str) -> None:
        forget_cached_keys()
        owner = create_organization()
        self.organization = owner.id
        self.token = issue_key(owner, *(scopes or (*SCOPES, "periods:write"))).token
        self.bank = open_account(self.organization, "bank:ba_1:EUR", type_="asset", floor=None)
        self.ann = open_account(self.organization, "wallets:ann:EUR", floor=None)
        self.bob = open_account(self.organization, "wallets:bob:EUR", floor=None)
        self.fees = open_account(self.organization, "fees:f:EUR", type_="income", floor=None)
        write_history(
            self.organization,
            [
                Move(self.bank, self.ann, 100_00, MAY, MAY),
                Move(self.ann, self.bob, 30_00, JUNE, JUNE),
                Move(self.ann, self.fees, 5_00, LATE, JULY, kind="fee"),
            ],
        )
        seal(self.organization)


@pytest.fixture
def api():
    return TimedClient()


class TestBalances:
    def test_are_those_of_the_instant_by_the_clock_asked_for(self, api):
        def posted(**query: str) -> int:
            [row] = api.get("/v1/balances", ledger_account=printed(api.ann), **query).json()["data"]
            return row["posted"]

        assert posted() == 65_00
        assert posted(at="2026-06-30T12:00:00Z") == 65_00
        assert posted(at="2026-06-30T11:59:59Z") == 70_00
        assert posted(at="2026-06-30T12:00:00Z", clock="recorded") == 70_00
        assert posted(at="2026-05-01T00:00:00+02:00") == 0

    def test_of_a_branch_are_listed_and_summed(self, api):
        answer = api.get("/v1/balances", code_prefix="wallets:", limit="1").json()

        assert [row["code"] for row in answer["data"]] == ["wallets:ann:EUR"]
        assert answer["totals"] == [{"type": "liability", "currency": "EUR", "posted": 95_00}]
        assert answer["has_more"] is True
        rest = api.get("/v1/balances", code_prefix="wallets:", after=answer["next"]).json()
        assert [row["code"] for row in rest["data"]] == ["wallets:bob:EUR"]
        assert rest["next"] is None

    @pytest.mark.parametrize(
        "query",
        [
            {"clock": "lunar"},
            {"type": "wallet"},
            {"type": ""},
            {"currency": "euro"},
            {"at": "yesterday"},
            {"at": "0001-01-01T00:00:00Z"},
            {"colour": "red"},
            {"ledger_account": "la_x"},
            {"limit": "0"},
        ],
    )
    def test_asked_for_wrongly_are_refused(self, api, query):
        assert api.get("/v1/balances", **query).status_code == 400

    def test_are_of_one_currency_and_of_one_type_where_it_is_asked(self, api):
        fund(api.organization, open_account(api.organization, "wallets:ann:USD"), 7, "USD")

        def found(**query: str) -> tuple[list[str], list[tuple]]:
            answer = api.get("/v1/balances", **query).json()
            totals = [(row["type"], row["currency"], row["posted"]) for row in answer["totals"]]
            return [row["code"] for row in answer["data"]], totals

        assert found(type="income") == (["fees:f:EUR"], [("income", "EUR", 5_00)])
        assert found(type="equity") == ([], [])
        assert found(type="liability", currency="USD") == (
            ["wallets:ann:USD"], [("liability", "USD", 7)],
        )  # fmt: skip
        assert found(currency="EUR", code_prefix="wallets") == (
            ["wallets:ann:EUR", "wallets:bob:EUR"], [("liability", "EUR", 95_00)],
        )  # fmt: skip
        # An account that is of another one is no line, as one of another branch is none.
        assert found(ledger_account=printed(api.ann), type="asset") == ([], [])
        first = api.get("/v1/balances", type="liability", currency="EUR", limit="1").json()
        rest = api.get("/v1/balances", type="liability", currency="EUR", after=first["next"])
        assert [row["code"] for row in rest.json()["data"]] == ["wallets:bob:EUR"]
        other = api.get("/v1/balances", type="asset", after=first["next"])
        assert code_of(other) == (400, "invalid_cursor")

    def test_of_somebody_elses_account_are_not_found(self, api):
        other = TimedClient()

        answer = api.get("/v1/balances", ledger_account=printed(other.ann))

        assert code_of(answer) == (404, "ledger_account_not_found")
        assert api.get("/v1/balances", after="x").status_code == 400

    @pytest.mark.parametrize("path", ["/v1/balances", "/v1/trial-balance"])
    @pytest.mark.parametrize("cursor", ["", "x"])
    def test_go_on_from_no_cursor_that_is_none(self, api, path, cursor):
        # An empty one that began anew would turn the last page into the first, for ever.
        assert code_of(api.get(path, after=cursor)) == (400, "invalid_cursor")

    def test_want_the_scope(self):
        assert code_of(TimedClient("transfers:write").get("/v1/balances"))[0] == 403


class TestStatement:
    def test_opens_runs_and_closes(self, api):
        answer = api.get(
            f"/v1/ledger-accounts/{printed(api.ann)}/statement", period="2026-06"
        ).json()

        assert (answer["opening_balance"], answer["closing_balance"]) == (100_00, 65_00)
        assert [(line["amount"], line["balance"]) for line in answer["data"]] == [
            (30_00, 70_00),
            (5_00, 65_00),
        ]
        assert answer["since"] == "2026-06-01T00:00:00Z"

    def test_by_the_recorded_clock_holds_what_was_recorded(self, api):
        answer = api.get(
            f"/v1/ledger-accounts/{printed(api.ann)}/statement", period="2026-06", clock="recorded"
        ).json()

        assert [line["amount"] for line in answer["data"]] == [30_00]
        assert answer["closing_balance"] == 70_00

    @pytest.mark.parametrize("clock", ["effective", "recorded"])
    def test_goes_on_from_its_cursor(self, api, clock):
        path = f"/v1/ledger-accounts/{printed(api.ann)}/statement"
        query = {"since": "2026-01-01T00:00:00Z", "clock": clock, "limit": "2"}

        first = api.get(path, **query).json()
        second = api.get(path, **query, after=first["next"]).json()

        amounts = [line["amount"] for line in [*first["data"], *second["data"]]]
        assert amounts == [-100_00, 30_00, 5_00]
        assert [line["balance"] for line in second["data"]] == [65_00]
        assert (second["has_more"], second["next"]) == (False, None)

    @pytest.mark.parametrize(
        "other",
        [
            {"clock": "recorded"},
            {"kind": "fee"},
            {"since": "2026-01-02T00:00:00Z"},
            {"since": "2025-01-01T00:00:00Z", "until": "2026-07-02T00:00:00Z"},
            {"until": "2026-07-02T00:00:00Z"},
            {"since": None, "period": "2026-06"},
        ],
    )
    def test_takes_no_cursor_of_another_statement(self, api, other):
        path = f"/v1/ledger-accounts/{printed(api.ann)}/statement"
        query = {"since": "2026-01-01T00:00:00Z", "limit": "1"}
        asked = {name: value for name, value in (query | other).items() if value is not None}
        mine, theirs = api.get(path, **query).json(), api.get(path, **asked).json()

        for refused in (
            api.get(path, **asked, after=mine["next"]),
            api.get(path, **query, after=theirs["next"] or "none"),
            api.get(path.replace(printed(api.ann), printed(api.bank)), **query, after=mine["next"]),
        ):
            assert code_of(refused) == (400, "invalid_cursor")
        assert api.get(path, **query, after=mine["next"]).status_code == 200

    def test_of_this_month_goes_on_when_the_month_is_over(self, api, monkeypatch):
        """Whose beginning nobody named: it is the month of the first page on all of them."""
        path = f"/v1/ledger-accounts/{printed(api.ann)}/statement"
        last = datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC)
        monkeypatch.setattr(clock, "now", lambda: last)
        first = api.get(path, limit="1").json()
        monkeypatch.setattr(clock, "now", lambda: last + timedelta(seconds=2))

        second = api.get(path, limit="1", after=first["next"]).json()

        assert [line["amount"] for line in [*first["data"], *second["data"]]] == [30_00, 5_00]
        assert (second["since"], second["opening_balance"]) == (first["since"], 100_00)
        assert second["has_more"] is False
        assert api.get(path, before=second["previous"]).json()["data"] == first["data"]
        # And one that begins now is of July.
        assert api.get(path).json()["since"] == "2026-07-01T00:00:00Z"

    def test_goes_on_by_a_cursor_of_the_same_window_however_it_is_named(self, api):
        path = f"/v1/ledger-accounts/{printed(api.ann)}/statement"
        first = api.get(path, period="2026-06", limit="1").json()

        second = api.get(
            path, since=first["since"], until=first["until"], after=first["next"]
        ).json()

        assert [line["amount"] for line in [*first["data"], *second["data"]]] == [30_00, 5_00]

    def test_of_one_kind_is_narrowed(self, api):
        answer = api.get(
            f"/v1/ledger-accounts/{printed(api.ann)}/statement",
            since="2026-01-01T00:00:00Z", kind="fee",
        ).json()  # fmt: skip

        assert [(line["kind"], line["balance"]) for line in answer["data"]] == [("fee", 65_00)]

    def test_asked_for_wrongly_is_refused(self, api):
        path = f"/v1/ledger-accounts/{printed(api.ann)}/statement"

        for query in (
            {"period": "2026-13"},
            {"period": "June"},
            {"period": "2026-06", "since": "2026-06-01T00:00:00Z"},
            {"since": "2027-06-01T00:00:00Z", "until": "2026-06-01T00:00:00Z"},
            {"after": "x"},
        ):
            assert api.get(path, **query).status_code == 400, query
        other = TimedClient()
        answer = api.get(f"/v1/ledger-accounts/{printed(other.ann)}/statement")
        assert code_of(answer) == (404, "ledger_account_not_found")


class TestTrialBalance:
    def test_of_a_month_opens_moves_and_closes(self, api):
        answer = api.get("/v1/trial-balance", period="2026-06").json()

        lines = {
            row["code"]: (row["opening"], row["debits"], row["credits"], row["closing"])
            for row in answer["data"]
        }
        assert lines["wallets:ann:EUR"] == (-100_00, 35_00, 0, -65_00)
        assert lines["bank:ba_1:EUR"] == (100_00, 0, 0, 100_00)
        assert answer["totals"] == [
            {
                "currency": "EUR",
                "opening": 0,
                "debits": 35_00,
                "credits": 35_00,
                "closing": 0,
                "balanced": True,
            }
        ]
        assert answer["state"] == "open"

    def test_up_to_an_instant_counts_all_as_moved(self, api):
        answer = api.get("/v1/trial-balance", at="2026-05-31T12:00:00Z", limit="1").json()

        [row] = answer["data"]
        assert (row["code"], row["debits"], row["closing"]) == ("bank:ba_1:EUR", 100_00, 100_00)
        rest = api.get("/v1/trial-balance", at="2026-05-31T12:00:00Z", after=answer["next"]).json()
        assert [row["code"] for row in rest["data"]] == ["wallets:ann:EUR"]

    def test_is_by_the_clock_asked_for(self, api):
        def read(**query: str) -> tuple[dict[str, int], str]:
            answer = api.get("/v1/trial-balance", at="2026-06-30T12:00:00Z", **query).json()
            [total] = answer["totals"]
            assert (total["balanced"], total["closing"]) == (True, 0)
            return {row["code"]: row["closing"] for row in answer["data"]}, answer["clock"]

        happened, told = read(), read(clock="recorded")

        # The fee of June was recorded in July.
        assert happened == (
            {"bank:ba_1:EUR": 100_00, "fees:f:EUR": -5_00, "wallets:ann:EUR": -65_00,
             "wallets:bob:EUR": -30_00},
            "effective",
        )  # fmt: skip
        assert told == (
            {"bank:ba_1:EUR": 100_00, "wallets:ann:EUR": -70_00, "wallets:bob:EUR": -30_00},
            "recorded",
        )
        assert api.get("/v1/trial-balance", period="2026-06").json()["clock"] == "effective"

    @pytest.mark.parametrize(
        "query", [{"clock": "lunar"}, {"clock": "recorded", "period": "2026-06"}]
    )
    def test_by_a_clock_that_is_none_or_no_months_is_refused(self, api, query):
        assert api.get("/v1/trial-balance", **query).status_code == 400

    def test_of_both_a_month_and_an_instant_is_refused(self, api):
        answer = api.get("/v1/trial-balance", at="2026-05-31T12:00:00Z", period="2026-06")

        assert code_of(answer) == (400, "invalid_request")


class TestBalanceSheet:
    def test_balances(self, api):
        [sheet] = api.get("/v1/balance-sheet", period="2026-06").json()["data"]

        assert sheet == {
            "currency": "EUR",
            "assets": 100_00,
            "liabilities": 95_00,
            "equity": 0,
            "income": 5_00,
            "expenses": 0,
            "result": 5_00,
            "balanced": True,
        }

    def test_and_the_trial_balance_hold_an_instant_and_not_the_one_after_it(self, api):
        post_transfer(
            api.organization, api.ann, api.fees, 1, key="k",
            effective_at=datetime(2026, 7, 1, tzinfo=UTC),
        )  # fmt: skip

        def fees(path: str, **query: str) -> int:
            rows = api.get(path, **query).json()["data"]
            if path == "/v1/balance-sheet":
                return rows[0]["income"]
            return next(-row["closing"] for row in rows if row["code"] == "fees:f:EUR")

        for path in ("/v1/balance-sheet", "/v1/trial-balance"):
            assert fees(path, period="2026-06") == 5_00
            assert fees(path, at="2026-06-30T23:59:59.999999Z") == 5_00
            assert fees(path, at="2026-07-01T00:00:00Z") == fees(path) == 5_01

    def test_and_the_trial_balance_are_of_one_currency_where_it_is_asked(self, api):
        fund(api.organization, open_account(api.organization, "wallets:ann:USD"), 7, "USD")

        def currencies(path: str, **query: str) -> list[str]:
            return sorted({row["currency"] for row in api.get(path, **query).json()["data"]})

        for path in ("/v1/balance-sheet", "/v1/trial-balance"):
            assert currencies(path) == ["EUR", "USD"]
            assert currencies(path, currency="USD") == ["USD"]


class TestPeriods:
    def test_are_listed_from_the_first_entry_on(self, api):
        answer = api.get("/v1/periods").json()

        assert [row["period"] for row in answer["data"]][-2:] == ["2026-06", "2026-05"]
        assert {row["state"] for row in answer["data"]} == {"open"}

    def test_say_what_keeps_them_open(self, api):
        month = f"{clock.now():%Y-%m}"

        answer = api.get(f"/v1/periods/{month}").json()

        assert [blocker["code"] for blocker in answer["blockers"]] == ["period_not_over"]
        # The first one to be closed may be any.
        for name in ("2026-05", "2026-06", "1969-12"):
            assert api.get(f"/v1/periods/{name}").json()["blockers"] == []
        assert api.get("/v1/periods/1969-11").status_code == 400
        assert api.get("/v1/periods/junk").status_code == 400

    def test_are_closed_by_asking_and_by_another_person(self, api):
        def waits_for():
            return api.get("/v1/periods/2026-05").json()["approval"]

        assert waits_for() is None
        answer = api.post("/v1/periods/2026-05/close", {"reason": "May is done"}, key="close")

        assert answer.status_code == 202
        assert answer.json()["approval"]["state"] == "open"
        assert answer.json()["state"] == "open"
        again = api.post("/v1/periods/2026-05/close", {"reason": "May is done"}, key="close")
        assert again.json()["approval"] == answer.json()["approval"]
        assert ApprovalRequest.objects.count() == 1
        assert waits_for() == answer.json()["approval"]

        approvals.decide_approval(
            organization_id=api.organization,
            request_id=decode_id("apr", answer.json()["approval"]["id"]),
            verdict=Verdict.APPROVE,
            reason="Looked at it",
            idempotency_key="yes",
            actor=people.approver(),
            now=clock.now(),
        )

        def closed() -> bool:
            for owner, period in queries.list_closing():
                operations.finish_closing(organization_id=owner, period_id=period, now=clock.now())
            return api.get("/v1/periods/2026-05").json()["state"] == "closed"

        wait_until(closed)
        assert waits_for() is None
        listed = {
            state: [row["period"] for row in api.get("/v1/periods", state=state).json()["data"]]
            for state in ("open", "closing", "closed")
        }
        assert (listed["closed"], listed["closing"]) == (["2026-05"], [])
        assert listed["open"][-1] == "2026-06"
        stored = api.get("/v1/trial-balance", period="2026-05").json()
        assert (stored["state"], stored["totals"][0]["debits"]) == ("closed", 100_00)
        reopened = api.post("/v1/periods/2026-05/reopen", {"reason": "A late fact"}, key="re")
        assert reopened.status_code == 202
        assert waits_for() == reopened.json()["approval"]

    def test_wait_for_no_request_whose_time_is_over(self, api):
        api.post("/v1/periods/2026-05/close", {"reason": "May is done"})
        assert api.get("/v1/periods/2026-05").json()["approval"] is not None

        with connection.cursor() as cursor:
            # No sweeper came by.
            cursor.execute("SET session_replication_role = replica")
            cursor.execute(
                "UPDATE approvals_request SET requested_at = now() - interval '2 seconds',"
                " expires_at = now() - interval '1 second'"
            )
            cursor.execute("RESET session_replication_role")

        assert api.get("/v1/periods/2026-05").json()["approval"] is None

    @pytest.mark.parametrize(
        ("path", "body", "expected"),
        [
            ("2199-01/close", {"reason": "Not yet"}, (422, "period_not_over")),
            ("2026-05/reopen", {"reason": "A late fact"}, (404, "period_not_found")),
            ("2026-05/close", {}, (400, "invalid_request")),
            ("may/close", {"reason": "May is done"}, (400, "invalid_request")),
        ],
    )
    def test_that_may_not_be_closed_are_refused(self, api, path, body, expected):
        assert code_of(api.post(f"/v1/periods/{path}", body)) == expected
        assert not ApprovalRequest.objects.exists()

    def test_want_a_scope_of_their_own(self):
        api = TimedClient("ledger:read")

        answer = api.post("/v1/periods/2026-05/close", {"reason": "May is done"})

        assert answer.status_code == 403
        assert api.get("/v1/periods").status_code == 200

    def test_of_another_organisation_are_its_own(self, api):
        other = TimedClient()
        api.post("/v1/periods/2026-05/close", {"reason": "May is done"})

        theirs = other.get("/v1/periods/2026-05").json()
        assert (theirs["closings"], theirs["approval"]) == (0, None)
        view = queries.find_period(organization_id=other.organization, month=date(2026, 5, 1))
        assert view is None
