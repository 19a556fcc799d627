"""Tables that show the first of many say so, and lead to the rest."""

import pytest

from apps.backoffice.admin import _customers as backoffice
from apps.backoffice.views import pages
from apps.banking.admin import _accounts, _files, _statements
from apps.banking.models import BankFile, BankLine, BankStatement
from apps.core import clock
from tests.backoffice.test_acts import url_of
from tests.banking.factories import import_file
from tests.banking.statements import Entry, Made, camt053

STATEMENTS = "/admin/banking/bankstatement/"


@pytest.fixture
def client(browse):
    return browse("noor")


@pytest.fixture
def file(house, db):
    """Return a file of three statements, the first with a line of three transactions."""
    part = '<TxDtls><Amt Ccy="EUR">10.00</Amt></TxDtls>'
    opening, made = house.closing, []
    for number in range(3):
        entry = Entry(amount=30_00, details=part * 3 if number == 0 else None)
        made.append(
            Made(
                entries=(entry,),
                opening=opening,
                statement_id=f"CUT-{number}",
                day=clock.now().date(),
            )
        )
        opening += 30_00
    imported = import_file(house.id, camt053(*made, message_id="CUT"))
    assert imported.state == "imported", imported.reason
    return imported


def test_statements_of_a_file(client, file, monkeypatch):
    monkeypatch.setattr(_files, "ROWS_SHOWN", 2)

    text = client.get(url_of(BankFile.objects.get(pk=file.pk))).content.decode()

    assert "The first 2." in text
    rest = f"{STATEMENTS}?bank_file_id={file.pk}"
    assert rest in text
    assert len(client.get(rest).context["rows"]) == 3


def test_statements_of_an_account(client, house, file, monkeypatch):
    monkeypatch.setattr(_accounts, "STATEMENTS_SHOWN", 2)

    text = client.get(url_of(house.bank_account)).content.decode()

    assert "The last 2." in text
    rest = f"{STATEMENTS}?bank_account_id={house.bank_account.pk}"
    assert rest in text
    assert f"/admin/banking/bankline/?bank_account_id={house.bank_account.pk}" in text
    count = BankStatement.objects.filter(bank_account_id=house.bank_account.pk).count()
    assert len(client.get(rest).context["rows"]) == min(count, 50)


def test_transactions_of_a_line(client, file, monkeypatch):
    line = BankLine.objects.get(statement__bank_file_id=file.pk, unit_count=3)
    whole = client.get(url_of(line)).content.decode()
    monkeypatch.setattr(_statements, "ROWS_SHOWN", 2)

    assert "The first 2." in client.get(url_of(line)).content.decode()
    assert "The first" not in whole


def test_what_a_customer_has(client, house, monkeypatch):
    monkeypatch.setattr(backoffice, "ROWS_SHOWN", 1)

    text = client.get(url_of(house.customers[0])).content.decode()

    assert "The newest 1." in text.partition("Destinations</h2>")[2].partition("</header>")[0]


def test_what_is_found(client, house, monkeypatch):
    for number in range(3):
        odd = Made(entries=(Entry(amount=1_00),), opening=0, closing=0, statement_id=f"{number}")
        import_file(house.id, camt053(odd, message_id="SAME"))
    monkeypatch.setattr(pages, "HITS_MAX", 2)

    text = client.post("/admin/find/", {"text": "SAME"}).content.decode()

    assert text.count("day.xml") == 2
    assert "At most 2 of a kind." in text
