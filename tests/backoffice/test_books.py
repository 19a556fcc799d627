"""The screens of the books: the tree of accounts, statements, months, trial balances."""

import base64
import csv
import hashlib
import io
import re
from datetime import UTC, date, datetime, timedelta
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from apps.accounts.models import Organization, Staff
from apps.approvals.models import ApprovalRequest
from apps.backoffice.queries import _trial_balances
from apps.core import clock, outbox
from apps.core.actors import Actor
from apps.core.ids import decode_id, encode_id, new_id
from apps.core.models import AuditEvent
from apps.core.wall_clock import day_of
from apps.ledger import operations, queries
from apps.ledger.models import JournalEntry, Period
from apps.ledger.operations import AccountChange, HoldRequest
from apps.ledger.rules import AccountStatus, CaptureHold, PlaceHold
from tests.accounts import factories as accounts
from tests.ledger.factories import committed, create_organization, move, open_account, post
from tests.ledger.histories import Move, seal, write_history
from tests.ledger.tampering import corrupt
from tests.support import wait_until

pytestmark = pytest.mark.django_db(transaction=True)

MAY = datetime(2026, 5, 31, 12, tzinfo=UTC)
JUNE = datetime(2026, 6, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)
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
            [
                " ".join(unescape(strip_tags(cell.replace("<wbr>", "").replace("<", " <"))).split())
                for cell in found
            ]
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
        assert ":available" not in text

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

    def test_shows_what_is_pending_and_available_beside_what_is_posted(self, house):
        hold = HoldRequest(
            debit_account_id=house.ann, credit_account_id=house.bob, amount_minor=20_00,
            currency="EUR",
        )  # fmt: skip
        operations.place_hold(
            organization_id=house.id, hold=hold, idempotency_key="hold",
            actor=Actor.job("tests"), now=clock.now(),
        )  # fmt: skip
        levels = queries.list_levels(organization_id=house.id, now=clock.now(), path="customers")

        whole, (ann, bob) = levels[""].branches[1], levels["customers"].branches
        assert (whole.sums["EUR"], whole.sums["USD"]) == (-95_00, 0)
        assert (whole.pending_out["EUR"], whole.pending_in["EUR"]) == (20_00, 20_00)
        assert whole.available == {"EUR": 75_00, "USD": 0}
        assert (ann.available["EUR"], ann.pending_out["EUR"]) == (45_00, 20_00)
        assert (bob.available["EUR"], bob.pending_in["EUR"]) == (30_00, 20_00)
        text = house.page("ledger/ledgeraccount/")
        assert ">75.00&nbsp;" in text
        assert ">20.00&nbsp;" in text

    def test_adds_up_nothing_over_accounts_of_both_sides(self, house):
        for code, type_ in (("mixed:a:EUR", "asset"), ("mixed:l:EUR", "liability")):
            open_account(house.id, code, type_=type_, floor=None)

        text = house.page("ledger/ledgeraccount/")

        row = next(row for row in text.split("<tr>") if "?under=mixed" in row)
        assert row.count('class="k-none"') >= 3


class TestTheListOfAccounts:
    @staticmethod
    def codes(house, **query):
        text = house.page("ledger/ledgeraccount/", **query)
        found = re.findall(r"/admin/ledger/ledgeraccount/(la_\w+)/", text)
        rows = {
            encode_id("la", row.id): row.code for row in queries.accounts(organization_id=house.id)
        }
        return {rows[id_] for id_ in found if id_ in rows}

    def test_is_narrowed_by_status(self, house):
        assert self.codes(house, status="frozen") == set()
        committed(operations.change_account)(
            organization_id=house.id, account_id=house.bob,
            change=AccountChange(status=AccountStatus.FROZEN, reason="Asked for"),
            actor=Actor.job("tests"), now=clock.now(),
        )  # fmt: skip

        assert self.codes(house, status="frozen") == {"customers:bob:available:EUR"}
        assert "customers:bob:available:EUR" not in self.codes(house, status="open")

    def test_is_narrowed_to_what_stands_at_its_floor(self, house):
        full = open_account(house.id, "wallets:full:EUR", floor=0)
        open_account(house.id, "wallets:empty:EUR", floor=0)
        credit = open_account(house.id, "wallets:credit:EUR", floor=-10_00)
        post(house.id, move(house.bank, full, 10_00), move(credit, house.bob, 10_00))

        assert self.codes(house, floor="at") == {"wallets:empty:EUR", "wallets:credit:EUR"}
        assert self.codes(house, floor="below") == set()


class TestAStatementAsAFile:
    """It is streamed, noted before and after, and no text in it is a formula."""

    @pytest.fixture
    def books(self):
        owner = create_organization()
        ann = open_account(owner, "wallets:ann:EUR", floor=None)
        bob = open_account(owner, "wallets:bob:EUR", floor=None)
        for number, text in enumerate(("=HYPERLINK(1)", " +1", "plain")):
            post(
                owner,
                move(
                    ann, bob, 1_00 + number, description=text, reference=f"@r{number}",
                    effective_at=JUNE,
                ),
            )  # fmt: skip
        return owner, ann

    @staticmethod
    def export(client, account, **fields):
        url = f"/admin/ledger/ledgeraccount/{encode_id('la', account)}/act/export/"
        sent = {
            "period": "2026-06",
            "clock": "effective",
            "reason": "For the auditors",
            "form_token": str(new_id()),
        }
        return client.post(url, sent | fields)

    def test_holds_its_lines_as_text_and_numbers_as_numbers(self, books):
        _, ann = books
        answer = self.export(House.signed_in(accounts.create_staff("auditor")), ann)

        assert answer["Content-Disposition"].endswith('-2026-06.csv"')
        rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))
        assert rows[2] == ["opening", "0.00", "EUR", "0"]
        assert rows[3] == ["closing", "-3.03", "EUR", "-303"]
        lines = [dict(zip(rows[4], row, strict=True)) for row in rows[5:-1]]
        assert [line["description"] for line in lines] == ["'=HYPERLINK(1)", "' +1", "plain"]
        assert [line["reference"] for line in lines] == ["'@r0", "'@r1", "'@r2"]
        assert [line["amount_minor"] for line in lines] == ["-100", "-101", "-102"]
        assert [line["balance"] for line in lines] == ["-1.00", "-2.01", "-3.03"]
        assert rows[-1] == ["rows", "3"]

    def test_has_no_account_number_of_a_bank_in_full(self, books):
        owner, ann = books
        bob = open_account(owner, "wallets:bill:EUR", floor=None)
        text = "Rent DE89 3704 0044 0532 0130 00, RF18 5390 0754 7034"
        reference = "DE89370400440532013000"
        move_named = move(ann, bob, 1_00, description=text, reference=reference, effective_at=JUNE)
        post(owner, move_named)

        answer = self.export(House.signed_in(accounts.create_staff("auditor")), ann)

        file = b"".join(answer.streaming_content).decode()
        assert "Rent DE•• •••• 3000, RF18 5390 0754 7034" in file
        assert '"DE•• •••• 3000"' in file
        assert "0532" not in file

    def test_has_none_in_the_code_of_its_account(self, books):
        owner, ann = books
        bank = open_account(owner, "bank:nl91abna0417164300:EUR", type_="asset", floor=None)
        post(owner, move(bank, ann, 1_00, effective_at=JUNE))

        answer = self.export(House.signed_in(accounts.create_staff("auditor")), bank)

        file = b"".join(answer.streaming_content).decode()
        assert '"statement","bank:NL•• •••• 4300:EUR"' in file
        assert "0417" not in file

    def test_taken_again_by_one_form_is_one_export_that_is_noted_again(self, books):
        _, ann = books
        auditor = House.signed_in(accounts.create_staff("auditor"))
        token = str(new_id())
        answers = [self.export(auditor, ann, form_token=token) for _ in range(2)]

        noted = [row.after for row in AuditEvent.objects.filter(act="core.export").order_by("id")]
        assert all(b"".join(answer.streaming_content) for answer in answers)
        assert len({after["export"] for after in noted}) == 1
        assert [after.get("again", False) for after in noted] == [False, True]

    def test_is_noted_before_its_first_byte_and_after_its_last(self, books):
        _, ann = books
        answer = self.export(House.signed_in(accounts.create_staff("auditor")), ann)
        begun = AuditEvent.objects.get(act="core.export")
        assert begun.reason == "For the auditors"
        assert begun.after["since"] == "2026-06-01T00:00:00+00:00"

        written = b"".join(answer.streaming_content)

        ended = AuditEvent.objects.filter(act="core.export").latest("id")
        assert ended.after["export"] == begun.after["export"]
        assert ended.after["sha256"] == hashlib.sha256(written).hexdigest()
        assert ended.after["lines"] == written.count(b"\r\n")

    def test_that_breaks_off_has_no_second_note(self, books):
        _, ann = books
        answer = self.export(House.signed_in(accounts.create_staff("auditor")), ann)

        lines = iter(answer.streaming_content)
        next(lines)
        answer.close()

        assert AuditEvent.objects.filter(act="core.export").count() == 1

    def test_is_read_a_page_at_a_time(self, books, monkeypatch):
        from apps.ledger.operations import _statement_export  # noqa: PLC0415  (this test's bound)

        monkeypatch.setattr(_statement_export, "PAGE_ROWS", 1)
        _, ann = books

        answer = self.export(
            House.signed_in(accounts.create_staff("finance_maker")), ann, clock="recorded",
            period=f"{clock.now():%Y-%m}",
        )  # fmt: skip

        rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))
        assert [row[9] for row in rows[5:-1]] == ["-100", "-101", "-102"]

    def test_is_not_for_who_may_not_export(self, books):
        _, ann = books
        client = House.signed_in(accounts.create_staff("risk_analyst"))

        assert self.export(client, ann).status_code == 403
        assert not AuditEvent.objects.filter(act="core.export").exists()
        page = client.get(f"/admin/ledger/ledgeraccount/{encode_id('la', ann)}/")
        assert "/act/export/" not in page.content.decode()

    def test_of_another_organizations_account_is_not_there(self, books):
        _, ann = books
        elsewhere = accounts.create_staff(
            "auditor", organizations=[accounts.create_organization()], sees_all=False
        )

        assert self.export(House.signed_in(elsewhere), ann).status_code == 404
        assert not AuditEvent.objects.filter(act="core.export").exists()

    @pytest.mark.parametrize("period", ["", "2026", "2026-13", "9999-01"])
    def test_wants_a_month(self, books, period):
        _, ann = books
        client = House.signed_in(accounts.create_staff("auditor"))

        assert self.export(client, ann, period=period).status_code == 400
        assert not AuditEvent.objects.filter(act="core.export").exists()

    def test_opens_with_the_month_that_was_looked_at(self, house):
        url = f"ledger/ledgeraccount/{encode_id('la', house.ann)}/"
        text = house.page(url, period="2026-05", clock="recorded")
        assert f"{url}act/export/?clock=recorded&amp;period=2026-05" in text

        assert 'value="2026-05"' in house.page(f"{url}act/export/", period="2026-05")


class TestAnAccount:
    def test_leads_to_its_entries_in_the_journal(self, house):
        text = house.page(f"ledger/ledgeraccount/{encode_id('la', house.fees)}/")

        query = f"?organization={house.id}&amp;account={encode_id('la', house.fees)}"
        assert f"/admin/ledger/journalentry/{query}" in text

    def test_of_a_bank_says_why_nobody_adjusts_it_by_hand(self, house):
        bank = open_account(house.id, "bank:ba_2:EUR", type_="asset", floor=None, internal=True)
        fees = open_account(house.id, "fees:g:EUR", type_="income", floor=None, internal=True)
        why = "bank:ba_2:EUR is moved by Kassa&#x27;s own acts only."

        assert why in house.page(f"ledger/ledgeraccount/{encode_id('la', bank)}/")
        text = house.page(f"ledger/ledgeraccount/{encode_id('la', fees)}/")
        assert f"/admin/ledger/ledgeraccount/{encode_id('la', fees)}/act/adjust/" in text

    def test_shows_the_month_of_its_latest_posting(self, house):
        text = house.page(f"ledger/ledgeraccount/{encode_id('la', house.ann)}/")

        assert "Statement, June 2026" in text
        assert "Opening balance" in text
        assert "70.00" in text
        assert "65.00" in text

    def test_does_not_open_in_the_future_for_what_is_dated_there(self, house):
        post(house.id, move(house.ann, house.bob, 1_00, effective_at=clock.now() + 900 * DAY))

        text = house.page(f"ledger/ledgeraccount/{encode_id('la', house.ann)}/")

        zone = Organization.objects.get(id=house.id).time_zone
        assert f"Statement, {day_of(instant=clock.now(), zone=zone):%B %Y}" in text

    def test_shows_what_its_client_says_of_it_account_numbers_masked(self, house):
        url = f"ledger/ledgeraccount/{encode_id('la', house.ann)}/"

        def said(text: str) -> str:
            [found] = re.findall(r"<dt>Metadata</dt><dd>(.*?)</dd>", text, re.DOTALL)
            return " ".join(unescape(strip_tags(found.replace("</", " </"))).split())

        assert said(house.page(url)) == "\u2014"
        committed(operations.change_account)(
            organization_id=house.id, account_id=house.ann,
            change=AccountChange(
                reason="Asked for",
                metadata={"crm": "<i>A-7", "iban": "DE89 3704 0044 0532 0130 00"},
            ),
            actor=Actor.job("tests"), now=clock.now(),
        )  # fmt: skip

        text = house.page(url)

        assert said(text) == "crm <i>A-7 , iban DE•• •••• 3000"
        assert "<i>" not in text
        assert "0532" not in text.replace(" ", "")

    @pytest.mark.parametrize("type_", ["liability", "asset"])
    def test_shows_what_reserves_its_money_and_nobody_elses(self, house, type_):
        """Of an asset money leaves by a credit, so that is the side a hold has to be on."""
        now = clock.now()
        mine = open_account(house.id, "wallets:mine:EUR", type_=type_, floor=None)
        other = open_account(house.id, "wallets:other:EUR", type_=type_, floor=None)

        def place(payer, payee, amount, **more) -> str:
            debit, credit = (payer, payee) if type_ == "liability" else (payee, payer)
            hold = PlaceHold(
                id=new_id(), debit_account_id=debit, credit_account_id=credit, currency="EUR",
                amount_minor=amount, **more,
            )  # fmt: skip
            post(house.id, hold)
            return encode_id("ho", hold.id)

        parts = place(mine, other, 20_00, multi_capture=True, reference="order 1")
        whole = place(mine, other, 3_00, expires_at=now + DAY)
        place(mine, other, 7_00, expires_at=now - DAY)
        place(other, mine, 5_00)
        post(house.id, CaptureHold(hold_id=decode_id("ho", parts), entry_id=new_id(), kind="x",
                                   amount_minor=4_00))  # fmt: skip

        text = house.page(f"ledger/ledgeraccount/{encode_id('la', mine)}/")

        held = [row for row in house.rows(text) if len(row) == 7]
        assert [(row[1], row[2], row[5], row[6]) for row in held] == [
            ("wallets:other:EUR", "\u2014", "0.00 EUR", "3.00 EUR"),
            ("wallets:other:EUR", "order 1", "4.00 EUR", "16.00 EUR"),
        ]
        assert [printed in text for printed in (whole, parts)] == [True, True]
        # What is pending out, by what reserved it.
        assert ">19.00&nbsp;" in text

    def test_shows_another_month_clock_and_kind(self, house):
        url = f"ledger/ledgeraccount/{encode_id('la', house.ann)}/"

        assert "Statement, May 2026" in house.page(url, period="2026-05", clock="recorded")
        assert "Nothing was posted here" in house.page(url, period="2026-05", kind="fee")
        for after in (
            "x",
            "2026-06-01T00:00:00~1",
            "2026-06-01T00:00:00+00:00~99999999999999999999",
            "2026-05-01T00:00:00+00:00~0",
            "0001-01-01T00:00:00+00:00~1",
            "0001-01-01T00:00:00+14:00~1",
        ):
            shown = house.rows(house.page(url, period="2026-06", after=after))
            # A place that is none is the first page.
            assert [row[-2:] for row in shown if row[2:3] in (["transfer"], ["fee"])] == [
                ["−30.00 EUR", "70.00 EUR"],
                ["−5.00 EUR", "65.00 EUR"],
            ]
        for after in ("2026-07-01T00:00:00+00:00~1", "9999-12-31T23:59:59.999999-14:00~1"):
            text = house.page(url, period="2026-06", after=after)
            assert "No further line in this month" in text


class TestTheJournal:
    """Its filters: a row is shown exactly if all of them fit it."""

    @staticmethod
    def shown(house, **query):
        """Return which of the three entries are shown: the payment, the gift, the fee."""
        text = house.page("ledger/journalentry/", **query)
        rows = JournalEntry.objects.filter(organization_id=house.id).order_by("id")
        ids = (encode_id("je", row.id) for row in rows)
        return "".join(
            name
            for name, id_ in zip("pgf", ids, strict=True)
            if f"/admin/ledger/journalentry/{id_}/" in text
        )

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            ({}, "pgf"),
            ({"kind": "fee"}, "f"),
            ({"account": "customers:bob:available:EUR"}, "g"),
            ({"account": "customers:ann:available:EUR", "amount_from": "30"}, "pg"),
            ({"account": "bank:ba_1:EUR", "amount_to": "99.99"}, ""),
            ({"by": "job:"}, "pgf"),
            ({"by": "staff:"}, ""),
            ({"actor": "job:tests"}, "pgf"),
            ({"actor": "job:test"}, ""),
            ({"reference": "none"}, ""),
            ({"effective_from": "2026-06-15"}, "gf"),
            ({"effective_until": "2026-06-14"}, "p"),
            ({"effective_from": "2026-05-31", "effective_until": "2026-05-31"}, "p"),
            ({"recorded_from": "2026-06-15"}, "gf"),
            ({"recorded_until": "2026-05-31", "kind": "transfer"}, "p"),
        ],
    )
    def test_shows_what_fits_its_filters(self, house, query, found):
        assert self.shown(house, **query) == found
        # And two by which an account is found, and how often it moved.
        assert house.asked <= QUERIES_MAX + 2

    def test_looks_for_an_amount_of_a_currency_in_a_month(self, house):
        june = {"effective_from": "2026-06-01", "effective_until": "2026-06-30"}
        query = {"currency": "EUR", "amount_from": "5.00", "amount_to": "29.99"}

        assert self.shown(house, **query, **june) == "f"
        assert self.shown(house, **query | {"currency": "USD"}, **june) == ""

        text = house.page("ledger/journalentry/", **query, effective_until="2026-06-30")
        assert "Amounts are looked for on one account, or in 31 days" in text
        assert "here from 31 May 2026 on" in text

    def test_says_from_which_day_of_the_organization_amounts_are_looked_for(self, house):
        Organization.objects.filter(pk=house.id).update(time_zone="Europe/Berlin")

        text = house.page(
            "ledger/journalentry/", currency="EUR", amount_from="5.00", effective_until="2026-06-30"
        )

        # At 00:00 in Berlin it is another day by UTC.
        assert "here from 31 May 2026 on" in text

    @pytest.mark.parametrize(
        ("query", "said"),
        [
            ({"amount_from": "5"}, "of a currency, or of an account"),
            ({"amount_from": "x", "currency": "EUR"}, "not a plain decimal amount"),
            ({"amount_from": "0", "currency": "EUR"}, "more than zero"),
            ({"currency": "XXQ"}, "XXQ is no currency"),
            ({"account": "fees:none"}, "There is no account fees:none"),
            ({"effective_from": "yesterday"}, "no day such as"),
            ({"recorded_from": "2026-06-02", "recorded_until": "2026-06-01"}, "not before"),
        ],
    )
    def test_says_what_means_nothing_and_shows_no_row(self, house, query, said):
        assert self.shown(house, **query) == ""
        text = house.page("ledger/journalentry/", **query).replace("&#x27;", "'")
        assert said in text

    def test_is_walked_page_by_page(self, house):
        owner = create_organization()
        ann, bob = (open_account(owner, f"wallets:{who}:EUR", floor=None) for who in "ab")
        write_history(owner, [Move(ann, bob, 1_00, JUNE, JUNE) for _ in range(120)])
        seen, query = [], {"account": "wallets:a:EUR", "organization": str(owner)}
        after = ""
        while True:
            text = house.page("ledger/journalentry/", **query, after=after)
            seen += re.findall(r'href="/admin/ledger/journalentry/(je_\w+)/"', text)
            older = re.search(r'rel="next" href="\?[^"]*after=([\w-]+)', text)
            if older is None:
                break
            after = older[1]
        newer = re.search(r'rel="prev" href="\?[^"]*before=([\w-]+)', text)
        back = house.page("ledger/journalentry/", **query, before=newer[1])

        assert len(seen) == len(set(seen)) == 120
        assert re.findall(r'href="/admin/ledger/journalentry/(je_\w+)/"', back) == seen[50:100]

    @pytest.mark.parametrize("after", ["x", "%%%", "WyJ4Il0", "\x00"])
    def test_shows_its_first_page_for_a_place_that_is_not_its_own(self, house, after):
        assert self.shown(house, kind="fee", after=after) == "f"

    @pytest.mark.parametrize("year", ["0001", "9999"])
    def test_stays_up_for_a_place_at_an_end_of_time(self, house, year):
        place = f"effective_at|0|{year}-12-31T23:59:59.999999+00:00|{'0' * 32}|0".encode()
        after = base64.urlsafe_b64encode(place).decode().rstrip("=")

        found = self.shown(house, kind="fee", effective_from="2026-05-31", after=after)

        assert found == ("" if year == "0001" else "f")

    def test_is_searched_in_one_organization_that_one_sees(self, house):
        other = House()

        assert self.shown(other, kind="fee", organization=str(other.id)) == "f"
        assert self.shown(house, kind="fee", organization=str(other.id)) == ""
        narrow = accounts.create_staff(
            "finance_maker",
            organizations=[Organization.objects.get(id=other.id)],
            sees_all=False,
        )
        house.client = House.signed_in(narrow)
        assert self.shown(house, kind="fee", organization=str(house.id)) == ""


class TestAJournalEntry:
    def test_shows_its_seal_once_it_has_one(self, house):
        owner = create_organization()
        ann, bob = (open_account(owner, f"wallets:{who}:EUR", floor=None) for who in "ab")
        post(owner, move(ann, bob, 10_00))
        [entry] = JournalEntry.objects.filter(organization_id=owner)
        url = f"ledger/journalentry/{encode_id('je', entry.id)}/"
        assert "not yet sealed" in house.page(url)

        outbox.relay_organization(organization_id=owner)
        assert operations.seal_entries(organization_id=owner, now=clock.now()) == 1

        text = house.page(url)
        [(position, _, hash_)] = queries.list_links(organization_id=owner, after=0, limit=5)
        assert position == 1
        assert hash_.hex() in text

    def test_shows_the_hold_that_it_captured(self, house):
        hold, entry = new_id(), new_id()
        post(
            house.id,
            PlaceHold(id=hold, debit_account_id=house.ann, credit_account_id=house.bob,
                      currency="EUR", amount_minor=5_00),
            CaptureHold(hold_id=hold, entry_id=entry, kind="x"),
        )  # fmt: skip

        text = house.page(f"ledger/journalentry/{encode_id('je', entry)}/")

        assert "Captured of" in text
        assert encode_id("ho", hold) in text

    def test_shows_what_was_said_of_it_and_when_it_became_something_else(self, house):
        owner = create_organization()
        ann, bob = (open_account(owner, f"wallets:{who}:EUR", floor=None) for who in "ab")
        post(
            owner,
            move(
                ann, bob, 10_00,
                description="For DE89370400440532013000",
                metadata={"order": "7", "from": "DE89370400440532013000"},
            ),
        )  # fmt: skip
        [entry] = JournalEntry.objects.filter(organization_id=owner)
        url = f"ledger/journalentry/{encode_id('je', entry.id)}/"
        mara = Actor(kind="staff", id=str(house.maker.pk), principal=f"staff:{house.maker.pk}")

        def said() -> list[list[str]]:
            text = house.page(url)
            assert "DE89370400440532013000" not in text
            return [[row[0], *row[2:]] for row in house.rows(text[text.index(">Metadata<") :])]

        first = ["0", "job", "from DE•• •••• 3000 , order 7"]
        assert said() == [first]
        for key, metadata in (("1", {"order": "8"}), ("2", {})):
            operations.annotate_entry(
                organization_id=owner, entry_id=entry.id, metadata=metadata, idempotency_key=key,
                actor=mara, now=clock.now(),
            )  # fmt: skip

        assert said()[:3] == [
            ["2", str(house.maker), "taken away"],
            ["1", str(house.maker), "order 8"],
            first,
        ]

    @pytest.mark.parametrize(
        "reference",
        ["DE89370400440532013000", "de89-3704-0044-0532-0130-00", "rent:DE89 3704 00440532013000"],
    )
    def test_under_an_account_number_shows_it_nowhere_and_is_found_by_it(self, house, reference):
        owner = create_organization()
        ann, bob = (open_account(owner, f"wallets:{who}:EUR", floor=None) for who in "ab")
        post(owner, move(ann, bob, 10_00, reference=reference, effective_at=JUNE))
        [entry] = JournalEntry.objects.filter(organization_id=owner)
        printed = encode_id("je", entry.id)

        pages = [
            house.page(f"ledger/journalentry/{printed}/"),
            house.page("ledger/journalentry/", organization=str(owner)),
            house.page(f"ledger/ledgeraccount/{encode_id('la', ann)}/", period="2026-06"),
        ]

        for page in pages:
            assert "DE•• •••• 3000" in page
            assert "0532" not in page
        found = house.page("ledger/journalentry/", organization=str(owner), reference=reference)
        assert f"/admin/ledger/journalentry/{printed}/" in found

    def test_of_which_nothing_was_said_says_so(self, house):
        [entry] = JournalEntry.objects.filter(organization_id=house.id, kind="fee")

        text = house.page(f"ledger/journalentry/{encode_id('je', entry.id)}/")

        assert "Nothing was said of it." in text

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
        # Back to the months of those books, whichever organization comes first.
        assert answer.url == f"/admin/ledger/period/?organization={house.id}"
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


class TestTheTrialBalance:
    def test_of_now_is_narrowed_to_a_branch(self, house):
        text = house.page("trial-balance/", code="customers:")

        assert "only the whole tree comes to zero" in text
        assert "bank:ba_1" not in text
        assert "95.00" in text

    @pytest.mark.parametrize("period", ["", "2026-06"])
    def test_of_a_branch_leaves_out_what_only_begins_alike(self, house, period):
        old = open_account(house.id, "customers_old:EUR", floor=None)
        post(house.id, move(house.ann, old, 7_00, effective_at=JUNE))

        for code in ("customers", "customers:"):
            text = house.page("trial-balance/", code=code, period=period)
            assert "customers:bob" in text
            assert "customers_old" not in text
        assert "customers_old" in house.page("trial-balance/", code="customers_old", period=period)

    @pytest.mark.parametrize("period", ["", "2026-06"])
    def test_of_one_currency_leaves_out_the_others(self, house, period):
        cash = open_account(house.id, "bank:ba_1:USD", type_="asset", floor=None)
        post(house.id, move(cash, house.dollars, 9_00, currency="USD", effective_at=JUNE))

        dollars = house.rows(house.page("trial-balance/", currency="usd", period=period))
        both = house.rows(house.page("trial-balance/", period=period))

        def currencies(rows: list[list[str]]) -> set[str]:
            return {cell[-3:] for row in rows for cell in row if "." in cell}

        assert (currencies(dollars), currencies(both)) == ({"USD"}, {"EUR", "USD"})
        assert "bank:ba_1:USD" in {row[0] for row in dollars if "9.00 USD" in row}

    def test_of_a_branch_that_is_none_says_so(self, house):
        assert "No account that moved fits this." in house.page("trial-balance/", code="nowhere:")

    @pytest.mark.parametrize("month", [{}, {"period": "2026-06"}])
    def test_shows_many_accounts_of_a_branch_in_one_line(self, house, month):
        many = [open_account(house.id, f"wallets:u{n}:EUR", floor=None) for n in range(51)]
        few = [open_account(house.id, f"wallets2:u{n}:EUR", floor=None) for n in range(2)]
        post(
            house.id,
            *(move(house.bank, one, 1_00, effective_at=JUNE) for one in (*many, *few)),
        )

        text = house.page("trial-balance/", **month)

        [line] = [row for row in _ROW.findall(text) if ">wallets:…</a>" in row]
        assert ">51<" in line
        assert ">51.00&nbsp;" in line
        assert f"?organization={house.id}&amp;code=wallets%3A&amp;currency=EUR" in line
        assert "wallets:u7:EUR" not in text
        assert "wallets2:u1:EUR" in text
        assert "the difference is zero" in text

    def test_adds_up_what_is_beyond_its_last_line(self, house, monkeypatch):
        monkeypatch.setattr(_trial_balances, "LINES_MAX", 1)

        text = house.page("trial-balance/", currency="EUR")

        lines = [row for row in _ROW.findall(text) if "<a href=" in row]
        assert [">bank:ba_1:EUR</a>" in lines[0], ">…</a>" in lines[1]] == [True, True]
        assert ">3<" in lines[1]
        assert ">100.00&nbsp;" in lines[1]
        assert "the difference is zero" in text

    def test_sums_up_a_first_segment_only_where_all_of_it_is_shown(self, house, monkeypatch):
        monkeypatch.setattr(_trial_balances, "LINES_MAX", 2)

        text = house.page("trial-balance/", period="2026-06", currency="EUR")

        assert [row[0:1] + row[2:] for row in house.rows(text)[:3]] == [
            ["bank:ba_1:EUR", "1", "100.00 EUR", "", "", "100.00 EUR"],
            ["…", "3", "−100.00 EUR", "35.00 EUR", "35.00 EUR", "−100.00 EUR"],
            ["Sum", "", "0.00 EUR", "35.00 EUR", "35.00 EUR", "0.00 EUR"],
        ]


class TestTheTrialBalanceOfAMonth:
    def test_shows_opening_movement_and_closing(self, house):
        text = house.page("trial-balance/", period="2026-06")

        assert "Trial balance, June 2026" in text
        assert "Debits equal credits" in text
        assert "a credit balance carries a minus" in text
        assert [row[0:1] + row[3:] for row in house.rows(text)[:6]] == [
            ["bank:ba_1:EUR", "100.00 EUR", "", "", "100.00 EUR"],
            ["customers:ann:available:EUR", "−100.00 EUR", "35.00 EUR", "", "−65.00 EUR"],
            ["customers:bob:available:EUR", "0.00 EUR", "", "30.00 EUR", "−30.00 EUR"],
            ["All of customers", "−100.00 EUR", "35.00 EUR", "30.00 EUR", "−95.00 EUR"],
            ["fees:f:EUR", "0.00 EUR", "", "5.00 EUR", "−5.00 EUR"],
            ["Sum", "0.00 EUR", "35.00 EUR", "35.00 EUR", "0.00 EUR"],
        ]
        # And three that begin and end the transaction by which it is of one instant.
        assert house.asked <= QUERIES_MAX + 3
        assert f"{encode_id('la', house.bank)}/?period=2026-06" in text

    def test_of_a_closed_month_is_the_stored_one(self, house):
        house.close(date(2026, 5, 1))
        # As only a superuser can, so that what was stored is told from what was posted.
        corrupt(
            "UPDATE ledger_period_balance SET debits_minor = 123_45 WHERE account_id = %s",
            house.bank,
        )

        text = house.page("trial-balance/", period="2026-05")

        assert "As it was stored when the month was closed." in text
        assert [row[4:6] for row in house.rows(text) if row[0] == "bank:ba_1:EUR"] == [
            ["123.45 EUR", ""]
        ]

    def test_of_a_currency_without_a_posting_does_not_say_that_nothing_was_posted(self, house):
        text = house.page("trial-balance/", period="2026-06", currency="USD")

        assert "No account that moved up to the end of this month fits this." in text
        assert 'period=2026-06">Show the whole</a>' in text
        assert "Nothing was posted" not in text

    def test_of_a_branch_says_that_it_is_one(self, house):
        text = house.page("trial-balance/", period="2026-06", code="customers:")

        assert "only the whole tree comes to zero" in text
        assert "bank:ba_1" not in text
