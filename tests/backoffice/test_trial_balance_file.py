"""The trial balance as a file: the lines of its screen, all of them, as of one instant."""

import csv
import io
from datetime import date

import pytest
from django.db import connection

from apps.accounts.errors import CapabilityMissing
from apps.backoffice.queries import _trial_balances
from apps.core import clock, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_id
from apps.core.models import AuditEvent
from apps.ledger import operations, queries
from apps.ledger.operations import TrialBalanceTerms
from apps.ledger.queries import _lines
from tests.accounts import factories as accounts
from tests.backoffice.books import JUNE, House, assert_noted_to_its_end
from tests.ledger.factories import move, open_account, post

pytestmark = pytest.mark.django_db(transaction=True)

URL = "/admin/ledger/ledgeraccount/act/trial-balance/"


@pytest.fixture
def house() -> House:
    return House()


def taken(house, client=None, **fields):
    """Post the act's form, and return the answer."""
    sent = {
        "organization": str(house.id),
        "reason": "For the month's close.",
        "form_token": str(new_id()),
    }
    return (client or house.client).post(URL, sent | fields)


def read(answer) -> list[list[str]]:
    assert answer.status_code == 200
    return list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))


def on_screen(house, **query) -> list[list[str]]:
    """Return the screen's rows as plain texts: amounts without currency, an empty one as zero."""
    page = house.page("trial-balance/", organization=str(house.id), **query)
    rows = house.rows(page.partition("<h2>Balance sheet</h2>")[0])
    return [[cell.replace("\u2212", "-").replace(",", "") for cell in row] for row in rows]


def table(rows) -> list[list[str]]:
    """Return the rows of a file that the screen has in its tables: all but the balance sheet's."""
    return [row for row in rows[3:-1] if row[0] not in {"section", "result"}]


def decimals(cells) -> list[str]:
    """Return what a screen's amounts are in a file: nothing where it shows none."""
    return [cell.split()[0] if cell else "0.00" for cell in cells]


def cents(cell: str) -> int:
    """Return what an amount on the screen is in minor units."""
    return int(cell.split(maxsplit=1)[0].replace("\u2212", "-").replace(",", "").replace(".", ""))


class TestATrialBalanceAsAFile:
    def test_of_a_month_is_its_screen_with_subtotals_and_sums(self, house):
        rows = read(taken(house, period="2026-06"))

        shown = on_screen(house, period="2026-06")
        names = {"All of customers": "customers", "Sum": ""}
        assert [
            [names.get(row[0], row[0]), row[1], *decimals(row[3:])] for row in shown
        ] == [[row[1], row[2], *row[4:8]] for row in table(rows)]  # fmt: skip
        assert rows[0] == [
            "trial balance", encode_id("org", house.id), "month", "2026-06", "state", "open",
            "closing", "",
        ]  # fmt: skip
        lines = [dict(zip(rows[2], row, strict=True)) for row in rows[3:-1]]
        ann = next(line for line in lines if line["account"] == "customers:ann:available:EUR")
        assert ann == {
            "row": "line", "account": "customers:ann:available:EUR", "type": "liability",
            "accounts": "1", "opening": "-100.00", "debits": "35.00", "credits": "0.00",
            "closing": "-65.00", "currency": "EUR", "opening_minor": "-10000",
            "debits_minor": "3500", "credits_minor": "0", "closing_minor": "-6500",
        }  # fmt: skip
        assert [line["row"] for line in lines] == [
            "line", "line", "line", "subtotal", "line", "sum", *["section"] * 5, "result",
        ]  # fmt: skip
        assert rows[-1] == ["rows", "12"]

    @pytest.mark.parametrize("code", ["", "customers", "customers:bob:", "none"])
    @pytest.mark.parametrize("currency", ["", "eur", "USD"])
    def test_of_now_is_its_screen(self, house, code, currency):
        pair = [open_account(house.id, f"dollars:{n}:USD", floor=None) for n in "ab"]
        post(house.id, move(*pair, 1_234_567_89, currency="USD"))

        rows = read(taken(house, code=code, currency=currency))

        shown = on_screen(house, code=code, currency=currency)
        assert [[row[0], row[1], *decimals(row[3:])] for row in shown] == [
            [row[1] or "Sum", row[2], *row[4:6]] for row in table(rows)
        ]
        assert rows[2][4:] == ["debit", "credit", "currency", "debit_minor", "credit_minor"]
        assert rows[-1] == ["rows", str(len(rows) - 4)]

    def test_has_every_line_that_the_screen_has_no_room_for(self, house, monkeypatch):
        monkeypatch.setattr(_trial_balances, "LINES_OF_A_ROOT_MAX", 1)
        monkeypatch.setattr(_trial_balances, "LINES_MAX", 2)
        # And more of them than one portion of the cursor.
        monkeypatch.setattr(_lines, "_CHUNK", 2)

        rows = read(taken(house, period="2026-06"))

        assert [row[0] for row in on_screen(house, period="2026-06")] == [
            "bank:ba_1:EUR", "customers:…", "…", "Sum",
        ]  # fmt: skip
        assert [row[1] for row in rows[3:-1] if row[0] == "line"] == [
            "bank:ba_1:EUR", "customers:ann:available:EUR", "customers:bob:available:EUR",
            "fees:f:EUR",
        ]  # fmt: skip

    def test_of_a_month_has_its_balance_sheet_signed_as_the_lines_are(self, house):
        rows = read(taken(house, period="2026-06"))

        sheet = [row for row in rows if row[0] in {"section", "result"}]
        assert [row[:8] for row in sheet] == [
            ["section", "", "asset", "1", "100.00", "0.00", "0.00", "100.00"],
            ["section", "", "liability", "2", "-100.00", "35.00", "30.00", "-95.00"],
            ["section", "", "equity", "0", "0.00", "0.00", "0.00", "0.00"],
            ["section", "", "income", "1", "0.00", "0.00", "5.00", "-5.00"],
            ["section", "", "expense", "0", "0.00", "0.00", "0.00", "0.00"],
            ["result", "", "", "1", "0.00", "0.00", "5.00", "-5.00"],
        ]
        # To a program it is as wide as any other row, and adds up: with the result for its two.
        assert {len(row) for row in rows[2:-1]} == {13}
        kept = [row for row in sheet if row[2] not in {"income", "expense"}]
        assert [sum(int(row[at]) for row in kept) for at in (9, 12)] == [0, 0]

    @pytest.mark.parametrize("period", ["2026-06", ""])
    def test_has_the_balance_sheet_of_the_screen_for_each_currency(self, house, period):
        cash = open_account(house.id, "bank:ba_1:USD", type_="asset", floor=None)
        costs = open_account(house.id, "costs:bank:USD", type_="expense", floor=None)
        owners = open_account(house.id, "equity:owners:USD", type_="equity", floor=None)
        for pair, amount in (((cash, house.dollars), 9_00), ((costs, cash), 2_00),
                             ((cash, owners), 3_00)):  # fmt: skip
            post(house.id, move(*pair, amount, currency="USD", effective_at=JUNE))

        rows = read(taken(house, period=period))

        columns = rows[2]
        last = "closing_minor" if period else "debit_minor"
        found: dict[str, list[int]] = {}
        for row in (dict(zip(columns, row, strict=True)) for row in rows[3:-1]):
            if row["row"] in {"section", "result"}:
                net = int(row[last]) - (0 if period else int(row["credit_minor"]))
                side = 1 if row["type"] in {"asset", "expense"} else -1
                found.setdefault(row["currency"], []).append(side * net)
        page = house.page("trial-balance/", organization=str(house.id), period=period)
        shown = house.rows(page.partition("<h2>Balance sheet</h2>")[2])
        assert [[row[0], *(cents(cell) for cell in row[1:7])] for row in shown] == [
            [currency, *sums] for currency, sums in found.items()
        ]
        assert found["USD"] == [10_00, 9_00, 3_00, 0, 2_00, -2_00]

    def test_of_a_branch_alone_has_no_balance_sheet(self, house):
        for period in ("2026-06", ""):
            rows = read(taken(house, period=period, code="customers"))
            assert {row[0] for row in rows[3:-1]} <= {"line", "subtotal", "sum"}

    def test_of_a_closed_month_is_what_was_stored(self, house):
        house.close(date(2026, 5, 1))

        rows = read(taken(house, period="2026-05"))

        assert rows[0][2:] == ["month", "2026-05", "state", "closed", "closing", "1"]
        assert [row[1:8] for row in table(rows)] == [
            ["bank:ba_1:EUR", "asset", "1", "0.00", "100.00", "0.00", "100.00"],
            ["customers:ann:available:EUR", "liability", "1", "0.00", "0.00", "100.00", "-100.00"],
            ["", "", "2", "0.00", "100.00", "100.00", "0.00"],
        ]

    def test_before_anything_moved_has_no_row(self, house):
        assert read(taken(house, period="2020-01"))[3:] == [["rows", "0"]]

    def test_says_what_was_asked_without_a_formula(self, house):
        rows = read(taken(house, code="=cmd|' /C calc'!A0", currency="+x"))

        assert rows[1][:4] == ["branch", "'=cmd|' /C calc'!A0", "currency", "'+X"]

    @pytest.mark.parametrize(("period", "of"), [("2026-06", "2026-06"), ("", None)])
    def test_is_a_download_named_by_us(self, house, period, of):
        begun = clock.now()
        answer = taken(house, period=period, code='"; filename="x')
        read(answer)

        days = [of] if of else [f"{at:%Y-%m-%d}" for at in (begun, clock.now())]
        assert answer["Content-Disposition"] in [
            f'attachment; filename="trial-balance-{encode_id("org", house.id)}-{day}.csv"'
            for day in days
        ]
        assert answer["Content-Type"] == "text/csv; charset=utf-8"
        assert answer["Cache-Control"] == "no-store"

    def test_is_noted_before_its_first_byte_and_after_its_last(self, house):
        answer = taken(house, period="2026-06", code="customers", currency="EUR")
        begun = AuditEvent.objects.get(act="core.export")
        assert begun.reason == "For the month's close."
        asked = {key: begun.after[key] for key in ("list", "period", "code", "currency")}
        assert asked == {
            "list": "trial_balance", "period": "2026-06", "code": "customers", "currency": "EUR",
        }  # fmt: skip

        assert_noted_to_its_end(begun, b"".join(answer.streaming_content))

    def test_that_breaks_off_has_no_second_note(self, house):
        answer = taken(house)
        next(iter(answer.streaming_content))
        answer.close()

        assert AuditEvent.objects.filter(act="core.export").count() == 1

    def test_sent_twice_is_one_export_that_is_noted_again(self, house):
        """Of now it may hold something else by then, and may break off."""
        token = str(new_id())
        answers = [taken(house, form_token=token) for _ in range(2)]

        rows = AuditEvent.objects.filter(act="core.export").order_by("id")
        noted = [row.after for row in rows]
        assert all(read(answer) for answer in answers)
        assert len({after["export"] for after in noted}) == 1
        assert [after.get("again", False) for after in noted] == [False, True]

    def test_shows_account_numbers_in_codes_as_the_screen_does(self, house):
        account = open_account(house.id, "bank:nl91abna0417164300:EUR", type_="asset")
        post(house.id, move(account, house.fees, 1_00))

        for fields in ({}, {"period": "2026-06"}, {"code": "bank:nl91abna0417164300"}):
            file = b"".join(taken(house, **fields).streaming_content).decode()
            assert "0417164300" not in file.lower().replace(" ", "")
        assert "NL\u2022\u2022 \u2022\u2022\u2022\u2022 4300" in file

    @pytest.mark.parametrize("role", ["risk_analyst", "support", "admin"])
    def test_is_not_for_who_may_not_export_or_not_see_it(self, house, role):
        client = House.signed_in(accounts.create_staff(role))

        assert taken(house, client).status_code == 403
        page = client.get("/admin/trial-balance/")
        assert "act/trial-balance/" not in page.content.decode()
        assert not AuditEvent.objects.filter(act="core.export").exists()

    def test_is_refused_by_the_operation_too(self, house):
        person = accounts.create_staff("support")

        with pytest.raises(CapabilityMissing):
            operations.begin_trial_balance_export(
                organization_id=house.id, terms=TrialBalanceTerms(), reason="Because",
                idempotency_key="k", actor=Actor.staff(person.pk), now=clock.now(),
            )  # fmt: skip

    def test_of_another_organization_is_no_choice(self, house):
        elsewhere = accounts.create_staff(
            "auditor", organizations=[accounts.create_organization()], sees_all=False
        )

        assert taken(house, House.signed_in(elsewhere)).status_code == 400
        assert not AuditEvent.objects.filter(act="core.export").exists()

    @pytest.mark.parametrize("period", ["2026", "2026-13", "x"])
    def test_wants_a_month_or_none(self, house, period):
        assert taken(house, period=period).status_code == 400

    def test_opens_with_what_was_looked_at(self, house):
        query = {"period": "2026-06", "currency": "eur", "code": "customers"}
        text = house.page("trial-balance/", organization=str(house.id), **query)

        asked = f"organization={house.id}&amp;period=2026-06&amp;currency=EUR&amp;code=customers"
        assert f'href="{URL}?{asked}"' in text
        form = house.client.get(URL, query | {"organization": str(house.id)}).context["form"]
        assert {name: form[name].value() for name in (*query, "organization")} == query | {
            "organization": str(house.id)
        }

    def test_of_many_accounts_is_never_whole_in_memory(self, house):
        """What was read of it comes out before the rest is fetched: Postgres keeps the cursor."""
        for n in range(30):
            account = open_account(house.id, f"wallets:w{n:02}:EUR", floor=None)
            post(house.id, move(house.bank, account, 1_00, effective_at=JUNE))

        with transactions.snapshot():
            lines = queries.stream_lines(organization_id=house.id, view=None)
            read = [next(lines) for _ in range(4)]
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_cursors")
                assert cursor.fetchone() == (1,)
            assert len([*read, *lines]) == 34
