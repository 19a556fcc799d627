"""The screens of the books: the tree of accounts, statements, months, trial balances."""

import re
from datetime import UTC, date, datetime
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from apps.accounts.models import Staff
from apps.approvals.models import ApprovalRequest
from apps.core import clock
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.ledger import operations, queries
from apps.ledger.models import Period
from tests.accounts import factories as accounts
from tests.ledger.factories import committed, create_organization, open_account
from tests.ledger.histories import Move, seal, write_history
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

MAY = datetime(2026, 5, 31, 12, tzinfo=UTC)
JUNE = datetime(2026, 6, 15, 12, tzinfo=UTC)
QUERIES_MAX = 10
_ROW = re.compile(r"<tr.*?</tr>", re.DOTALL)
_CELL = re.compile(r"<td.*?</td>|<th scope=\"row\".*?</th>", re.DOTALL)


class House:
    """An organisation with two customers, a fee, and somebody from finance signed in."""

    def __init__(self) -> None:
        self.id = create_organization()
        self.bank = open_account(self.id, "bank:ba_1:EUR", type_="asset", floor=None)
        self.ann = open_account(self.id, "customers:ann:available:EUR", floor=None)
        self.bob = open_account(self.id, "customers:bob:available:EUR", floor=None)
        self.dollars = open_account(self.id, "customers:bob:available:USD", floor=None)
        self.fees = open_account(self.id, "fees:f:EUR", type_="income", floor=None)
        write_history(
            self.id,
            [
                Move(self.bank, self.ann, 100_00, MAY, MAY),
                Move(self.ann, self.bob, 30_00, JUNE, JUNE),
                Move(self.ann, self.fees, 5_00, JUNE, JUNE, kind="fee"),
            ],
        )
        seal(self.id)
        self.maker = accounts.create_staff("finance_maker")
        self.client = self.signed_in(self.maker)

    @staticmethod
    def signed_in(person: Staff) -> Client:
        client = Client()
        client.force_login(person)
        return client

    def page(self, path: str, **query: str) -> str:
        with CaptureQueriesContext(connection) as asked:
            answer = self.client.get(f"/admin/{path}", query)
        assert answer.status_code == 200, path
        self.asked = len(asked)
        return answer.content.decode()

    @staticmethod
    def rows(text: str) -> list[list[str]]:
        """Return the cells of every row of a page's tables but their heads, as they are read."""
        rows = [
            [" ".join(unescape(strip_tags(cell.replace("<", " <"))).split()) for cell in found]
            for found in (_CELL.findall(row) for row in _ROW.findall(text))
        ]
        return [row for row in rows if row]

    @committed
    def begin(self, month: date) -> Period:
        period = operations.prepare_close(organization_id=self.id, month=month, now=clock.now())
        return operations.begin_closing(
            organization_id=self.id, period_id=period.id, requested_by=f"staff:{self.maker.pk}",
            approved_by=f"staff:{new_id()}", reason="Done", actor=Actor.job("tests"),
            now=clock.now(),
        )  # fmt: skip

    def close(self, month: date) -> Period:
        period = self.begin(month)

        def closed() -> bool:
            found = operations.finish_closing(
                organization_id=self.id, period_id=period.id, now=clock.now()
            )
            return found.state == "closed"

        wait_until(closed)
        return period


@pytest.fixture
def house() -> House:
    return House()


class TestTheTreeOfAccounts:
    def test_opens_with_its_first_level(self, house):
        text = house.page("ledger/ledgeraccount/")

        assert "customers" in text
        assert "95.00" in text
        assert "ann" not in text
        assert house.asked < QUERIES_MAX

    def test_opens_one_level_at_a_time(self, house):
        text = house.page("ledger/ledgeraccount/", under="customers")
        assert "ann" in text
        assert "available" not in text

        text = house.page("ledger/ledgeraccount/", under="customers:bob:available")
        assert "USD" in text
        assert encode_id("la", house.dollars) in text
        assert house.asked < QUERIES_MAX

    def test_is_a_list_as_soon_as_something_is_looked_for(self, house):
        text = house.page("ledger/ledgeraccount/", code="customers:ann")

        assert encode_id("la", house.ann) in text
        assert encode_id("la", house.bob) not in text

    @pytest.mark.parametrize("query", [{"under": "a\x00b"}, {"from": "\x00"}, {"under": "::::"}])
    def test_of_a_branch_that_is_none_is_the_first_level(self, house, query):
        first = house.rows(house.page("ledger/ledgeraccount/"))

        shown = house.rows(house.page("ledger/ledgeraccount/", **query))

        assert shown == first
        assert [row[:5] for row in first] == [
            ["▸ bank", "asset", "1", "100.00 EUR", ""],
            ["▸ customers", "liability", "3", "", "95.00 EUR"],
            ["▸ fees", "income", "1", "", "5.00 EUR"],
            ["Sum", "", "", "100.00 EUR 0.00 USD", "100.00 EUR 0.00 USD"],
        ]


class TestAnAccount:
    def test_shows_the_month_of_its_latest_posting(self, house):
        text = house.page(f"ledger/ledgeraccount/{encode_id('la', house.ann)}/")

        assert "Statement, June 2026" in text
        assert "Opening balance" in text
        assert "70.00" in text
        assert "65.00" in text

    def test_shows_another_month_clock_and_kind(self, house):
        url = f"ledger/ledgeraccount/{encode_id('la', house.ann)}/"

        assert "Statement, May 2026" in house.page(url, period="2026-05", clock="recorded")
        assert "Nothing was posted here" in house.page(url, period="2026-05", kind="fee")
        for after in (
            "x",
            "2026-06-01T00:00:00~1",
            "2026-06-01T00:00:00+00:00~99999999999999999999",
        ):
            shown = house.rows(house.page(url, period="2026-06", after=after))
            # A place that is none is the first page.
            assert [row[-2:] for row in shown if row[2:3] in (["transfer"], ["fee"])] == [
                ["−30.00 EUR", "70.00 EUR"],
                ["−5.00 EUR", "65.00 EUR"],
            ]


class TestAJournalEntry:
    def test_is_looked_for_within_the_organizations_one_sees(self, house):
        owner = encode_id("la", house.ann)
        with CaptureQueriesContext(connection) as asked:
            house.client.post("/admin/find/", {"text": f"je_{owner.removeprefix('la_')}"})

        looked = [one["sql"] for one in asked if 'FROM "ledger_journal_entry"' in one["sql"]]
        assert looked
        assert all('"organization_id" IN (' in sql for sql in looked)


class TestPeriods:
    def test_list_every_month_and_what_the_next_one_waits_for(self, house):
        text = house.page("ledger/period/")

        assert "Next: May 2026" in text
        assert "Nothing: it can be closed now." in text
        assert "June 2026" in text
        assert house.asked <= QUERIES_MAX + 1

    def test_are_asked_to_be_closed(self, house):
        form = house.client.get("/admin/ledger/period/act/ask/")
        token = form.context["form"]["form_token"].value()

        answer = house.client.post(
            "/admin/ledger/period/act/ask/",
            {
                "period": f"{house.id}/2026-05",
                "reason": "May is reconciled",
                "form_token": token,
            },
        )

        assert answer.status_code == 302
        waiting = ApprovalRequest.objects.get(act="ledger.close_period")
        assert waiting.requester_principal == f"staff:{house.maker.pk}"
        inbox = House.signed_in(accounts.create_staff("finance_approver"))
        assert "Close May 2026" in inbox.get("/admin/approvals/approvalrequest/").content.decode()

    def test_show_what_was_stored_and_ask_to_be_opened_again(self, house):
        house.close(date(2026, 5, 1))
        period = queries.find_period(organization_id=house.id, month=date(2026, 5, 1))
        url = f"ledger/period/{encode_id('per', period.id)}/"

        text = house.page(url)
        assert "As it was stored at closing 1" in text
        assert "debits equal credits" in text

        form = house.client.get(f"/admin/{url}act/reopen/")
        answer = house.client.post(
            f"/admin/{url}act/reopen/",
            {
                "reason": "A document came late",
                "form_token": form.context["form"]["form_token"].value(),
                "expected_version": period.event_sequence,
            },
        )
        assert answer.status_code == 302
        assert ApprovalRequest.objects.filter(act="ledger.reopen_period").exists()

    def test_that_are_out_of_turn_say_so_on_the_form(self, house):
        house.close(date(2026, 5, 1))
        period = queries.find_period(organization_id=house.id, month=date(2026, 5, 1))

        answer = house.client.get(f"/admin/ledger/period/{encode_id('per', period.id)}/act/close/")

        assert "It is closed already." in answer.content.decode()


class TestTheTrialBalanceOfAMonth:
    def test_shows_opening_movement_and_closing(self, house):
        text = house.page("trial-balance/", period="2026-06")

        assert "Trial balance, June 2026" in text
        assert "Debits equal credits" in text
        assert [row[0:1] + row[3:] for row in house.rows(text)] == [
            ["bank:ba_1:EUR", "100.00 EUR", "", "", "100.00 EUR"],
            ["customers:ann:available:EUR", "−100.00 EUR", "35.00 EUR", "", "−65.00 EUR"],
            ["customers:bob:available:EUR", "0.00 EUR", "", "30.00 EUR", "−30.00 EUR"],
            ["All of customers", "−100.00 EUR", "35.00 EUR", "30.00 EUR", "−95.00 EUR"],
            ["fees:f:EUR", "0.00 EUR", "", "5.00 EUR", "−5.00 EUR"],
            ["Sum", "0.00 EUR", "35.00 EUR", "35.00 EUR", "0.00 EUR"],
        ]
        assert house.asked <= QUERIES_MAX
        assert f"{encode_id('la', house.bank)}/?period=2026-06" in text

    def test_of_a_closed_month_is_the_stored_one(self, house):
        house.close(date(2026, 5, 1))

        text = house.page("trial-balance/", period="2026-05")

        assert "As it was stored when the month was closed." in text

    def test_of_a_branch_says_that_it_is_one(self, house):
        text = house.page("trial-balance/", period="2026-06", code="customers:")

        assert "only the whole tree comes to zero" in text
        assert "bank:ba_1" not in text
