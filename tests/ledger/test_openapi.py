"""The OpenAPI document against real answers: every operation of the ledger, and how it refuses."""

import pytest

from apps.approvals import operations as approvals
from apps.approvals.states import Verdict
from apps.core import clock
from apps.core.ids import decode_id
from apps.core.wall_clock import print_instant
from apps.ledger import operations, queries
from apps.ledger.api import examples
from tests.ledger import documents
from tests.ledger.clients import SCOPES, printed
from tests.ledger.documents import JudgedClient
from tests.ledger.factories import open_account
from tests.ledger.test_time_api import TimedClient
from tests.payouts import people
from tests.support import wait_until

ALL_SCOPES = (*SCOPES, "holds:write", "history:write", "periods:write")


class Story(TimedClient):
    """Ann and Bob, and a client whose every call is held against the document."""

    def __init__(self) -> None:
        super().__init__(*ALL_SCOPES)
        self.judged = JudgedClient(self.token)
        self.cat = open_account(self.organization, "wallets:cat:EUR")

    def moved(self, amount: int, **more: object) -> dict[str, object]:
        return {
            "debit_account": printed(self.ann),
            "credit_account": printed(self.bob),
            "amount": amount,
            "currency": "EUR",
            **more,
        }

    def exchanged(self, **more: object) -> dict[str, object]:
        return {
            "from_account": printed(self.ann),
            "to_account": printed(self.dollars),
            "amount": 10_00,
            "currency": "EUR",
            "bought_currency": "USD",
            "rate": "1.08456",
            "source": "ecb",
            "quoted_at": print_instant(clock.now()),
            **more,
        }

    def close(self, month: str) -> None:
        """Close a month as two people do."""
        asked = self.judged.post(f"/v1/periods/{month}/close", {"reason": "It is over"}).json()
        approvals.decide_approval(
            organization_id=self.organization,
            request_id=decode_id("apr", asked["approval"]["id"]),
            verdict=Verdict.APPROVE,
            reason="Looked at it",
            idempotency_key="yes",
            actor=people.approver(),
            now=clock.now(),
        )

        def is_closed() -> bool:
            for owner, period in queries.list_closing():
                operations.finish_closing(organization_id=owner, period_id=period, now=clock.now())
            return self.get(f"/v1/periods/{month}").json()["state"] == "closed"

        wait_until(is_closed)


@pytest.mark.django_db(transaction=True)
class TestAnswers:
    def test_of_every_operation_are_as_the_document_has_them(self):
        story = Story()

        _accounts(story)
        _transfers(story)
        _entries(story)
        _holds(story)
        _exchanges(story)
        _monitors(story)
        _reads_through_time(story)

        promised = {
            (operation["operationId"], int(status))
            for operation in documents.operations()
            for status in operation["responses"]
            if int(status) < 400
        }
        assert {found for found in story.judged.answered if found[1] < 400} == promised

    @pytest.mark.parametrize(
        ("path", "body", "status"),
        [
            ("transfers", {"amount": 0}, 400),
            ("transfers", {"currency": "USD"}, 422),
            ("holds", {"surprise": 1}, 400),
            ("holds/ho_01kb1mzxe5f0q8w3v6y2n4r7ta/void", None, 404),
            ("journal-entries/je_01kb1mzxe5f0q8w3v6y2n4r7ta/reversal", None, 404),
            ("periods/2199-06/close", {"reason": "It is over"}, 422),
        ],
    )
    def test_that_refuse_are_problems_as_the_document_has_them(self, path, body, status):
        story = Story()
        asked = {} if body is None else body
        if path in {"transfers", "holds"}:
            asked = story.moved(1) | asked

        assert story.judged.post(f"/v1/{path}", asked).status_code == status

    def test_that_come_again_are_as_the_document_has_them(self):
        story = Story()

        for asked, status in ((story.moved(1), 201), (story.moved(1, currency="USD"), 422)):
            first = story.judged.post("/v1/transfers", asked)
            again = story.judged.post("/v1/transfers", asked, again=True)
            assert (first.status_code, again.status_code) == (status, status)
            assert "Idempotent-Replayed" not in first.headers
            assert again.headers["Idempotent-Replayed"] == "true"


def _accounts(story):
    api = story.judged
    opened = api.post(
        "/v1/ledger-accounts",
        {
            "code": "wallets:ann:USD",
            "type": "liability",
            "currency": "USD",
            "metadata": {"plan": "gold"},
        },
    )
    story.dollars = decode_id("la", opened.json()["id"])
    path = f"/v1/ledger-accounts/{opened.json()['id']}"
    api.get("/v1/ledger-accounts", code="wallets:ann:USD", status="open", limit="1")
    shown = api.get(path)
    api.get(path, headers={"If-None-Match": shown.headers["ETag"]})
    api.post(path, {"min_available": -5_00, "reason": "A credit line"})
    api.post("/v1/holds", story.moved(1, expires_at="2199-01-01T00:00:00Z"))
    expanded = api.get(f"/v1/ledger-accounts/{printed(story.ann)}", **{"expand[]": "holds"})
    assert [hold["amount"] for hold in expanded.json()["holds"]] == [1]


def _transfers(story):
    api = story.judged
    api.post("/v1/transfers", story.moved(5_00, dry_run=True))
    posted = api.post("/v1/transfers", story.moved(5_00, reference="order-1", metadata={"a": "b"}))
    path = f"/v1/transfers/{posted.json()['id']}"
    api.get(path, headers={"If-None-Match": api.get(path).headers["ETag"]})
    api.get("/v1/transfers", reference="order-1")
    batch = {"mode": "independent", "transfers": [story.moved(1), story.moved(10**10)]}
    api.post("/v1/transfers/batch", {**batch, "dry_run": True})
    made = api.post("/v1/transfers/batch", batch).json()
    path, outcomes = f"/v1/transfers/batch/{made['id']}", made["outcomes"]
    api.get(path, headers={"If-None-Match": api.get(path).headers["ETag"]})
    assert [outcome["status"] for outcome in outcomes] == ["posted", "posted"]


def _entries(story):
    api = story.judged
    legs = [
        {"ledger_account": printed(story.ann), "amount": 3_00, "currency": "EUR"},
        {"ledger_account": printed(story.bob), "amount": -2_00, "currency": "EUR"},
        {"ledger_account": printed(story.cat), "amount": -1_00, "currency": "EUR"},
    ]
    api.post("/v1/journal-entries", {"postings": legs, "dry_run": True})
    posted = [
        api.post("/v1/journal-entries", {"postings": legs, "description": "A fee"}).json()["id"]
        for _ in range(2)
    ]
    path = f"/v1/journal-entries/{posted[0]}"
    api.get(path, headers={"If-None-Match": api.get(path).headers["ETag"]})
    api.post(f"{path}/metadata", {"metadata": {"order": "7"}})
    api.get(f"{path}/metadata", limit="1")
    api.get("/v1/journal-entries", **{"metadata[order]": "7"})
    api.get("/v1/postings", ledger_account=printed(story.ann))
    assert api.get(f"{path}/reversal").json()["reversible"]
    api.post(f"{path}/reversal", {"dry_run": True})
    api.post(f"{path}/reversal", {"reason": "By mistake"})
    assert api.get(f"{path}/reversal").json()["code"] == "already_reversed"
    api.post("/v1/journal-entries/reversals", {"journal_entries": posted[1:], "dry_run": True})
    api.post("/v1/journal-entries/reversals", {"journal_entries": posted[1:]})


def _holds(story):
    api = story.judged
    api.post("/v1/holds", story.moved(7, dry_run=True))
    paths = [
        f"/v1/holds/{api.post('/v1/holds', story.moved(7, reference=name)).json()['hold']['id']}"
        for name in ("a", "b")
    ]
    api.get("/v1/holds", status="open")
    api.get(paths[0], headers={"If-None-Match": api.get(paths[0]).headers["ETag"]})
    api.post(f"{paths[0]}/capture", {"amount": 5, "dry_run": True})
    api.post(f"{paths[0]}/capture", {"amount": 5})
    api.post(f"{paths[1]}/void", {"dry_run": True})
    api.post(f"{paths[1]}/void", {})


def _exchanges(story):
    api = story.judged
    api.post("/v1/fx-transfers", story.exchanged(dry_run=True))
    made = api.post("/v1/fx-transfers", story.exchanged(reference="fx-1"))
    path = f"/v1/fx-transfers/{made.json()['id']}"
    api.get(path, headers={"If-None-Match": api.get(path).headers["ETag"]})
    api.get("/v1/fx-transfers", reference="fx-1")
    api.post(f"{path}/reversal", {"dry_run": True})
    api.post(f"{path}/reversal", {"reason": "The trip is off"})


def _monitors(story):
    api = story.judged
    made = api.post(
        "/v1/balance-monitors",
        {
            "ledger_account": printed(story.ann),
            "measure": "available",
            "direction": "below",
            "threshold": 1_00,
        },
    )
    path = f"/v1/balance-monitors/{made.json()['id']}"
    api.get(path, headers={"If-None-Match": api.get(path).headers["ETag"]})
    api.get("/v1/balance-monitors", active="true")
    api.delete(path)


def _reads_through_time(story):
    api = story.judged
    api.get("/v1/balances", code_prefix="wallets")
    api.get("/v1/balance-sheet")
    api.get("/v1/trial-balance", period="2026-06")
    api.get(f"/v1/ledger-accounts/{printed(story.ann)}/statement", period="2026-06")
    api.get("/v1/periods")
    month = api.get("/v1/periods/2026-05")
    api.get("/v1/periods/2026-05", headers={"If-None-Match": month.headers["ETag"]})
    story.close("2026-05")
    api.post("/v1/periods/2026-05/reopen", {"reason": "A late fact"})


class TestExamples:
    def test_of_entries_and_transfers_balance(self):
        example = examples.entries.POST_ENTRY
        found = example.request["postings"]

        assert sum(posting["amount"] for posting in found) == 0
        assert example.response["postings"] == [
            posting | {"code": shown["code"], "version": shown["version"]}
            | {"balance_after": shown["balance_after"]}
            for posting, shown in zip(found, example.response["postings"], strict=True)
        ]  # fmt: skip


class TestTheDocument:
    def test_names_each_operation_once(self):
        names = [operation["operationId"] for operation in documents.operations()]

        assert len(names) == len(set(names))
        assert "delete_balance_monitors_one" in names

    def test_gives_each_parameter_one_type_wherever_it_stands(self):
        types: dict[str, set[str]] = {}
        for operation in documents.operations():
            for parameter in operation.get("parameters", ()):
                if parameter["in"] == "query":
                    types.setdefault(parameter["name"], set()).add(parameter["schema"]["type"])

        assert {name: told for name, told in types.items() if told != {"string"}} == {
            "limit": {"integer"},
            "amount": {"integer"},
            "amount_min": {"integer"},
            "amount_max": {"integer"},
            "active": {"boolean"},
        }

    def test_wants_no_key_where_a_dry_run_is_offered(self):
        wants_none = {
            operation["operationId"]
            for operation in documents.operations()
            if "requestBody" in operation and not documents.needs_key(operation)
        }

        assert wants_none == {
            "post_transfers",
            "post_transfers_batch",
            "post_journal_entries",
            "post_journal_entries_reversal",
            "post_journal_entries_reversals",
            "post_holds",
            "post_holds_capture",
            "post_holds_void",
            "post_fx_transfers",
            "post_fx_transfers_reversal",
        }

    def test_says_of_a_delete_that_it_reads_no_body(self):
        deleted = documents.operation_of("delete", "/v1/balance-monitors/bm_x")

        assert {"413", "415"}.isdisjoint(deleted["responses"])
        assert "requestBody" not in deleted
