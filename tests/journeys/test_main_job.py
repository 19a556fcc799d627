"""The main job, money end to end, as `make journey` runs it: real web, workers, bank, receiver."""

import pytest
from django.core.management import call_command
from django.db import connection

from apps.banking.models import BankLine, BankStatement
from apps.core.invariants import breaches
from apps.ledger.models import JournalEntry
from tests.core.events_of_tests import uncatalogued_data

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]


@pytest.fixture(autouse=True)
def _processes_on_this_database(monkeypatch):
    """The processes that the story starts find the database of this test."""
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "config.settings.test")
    monkeypatch.setenv("KASSA_IN_TEST", "1")
    monkeypatch.setenv("PAYOUT_COOLDOWN_HOURS", "0")
    monkeypatch.setenv("KASSA_TEST_DB_NAME", connection.settings_dict["NAME"])


def test_our_own_statement_goes_all_the_way(capsys):
    call_command("journey")

    out = capsys.readouterr().out
    assert "The journey is complete." in out
    assert "Debits equal credits in EUR." in out
    assert breaches() == []
    assert uncatalogued_data() == []


@pytest.mark.bank_files
@pytest.mark.parametrize(
    "name",
    [
        "nordea-example.xml",
        pytest.param("finland-sample.xml", marks=pytest.mark.soak),
        pytest.param("multi-statement-v2.xml", marks=pytest.mark.soak),
    ],
)
def test_a_real_statement_goes_all_the_way(bank_files, capsys, name):
    call_command("journey", statement=bank_files / "camt053" / name)

    assert "The journey is complete." in capsys.readouterr().out
    assert breaches() == []


@pytest.mark.bank_files
@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("postfinance-2020-11-25.xml", "off by 1,537.00 CHF"),
        ("single-entry-v8.xml", "currency_mismatch"),
    ],
)
def test_one_that_does_not_add_up_is_refused_and_changes_nothing(bank_files, capsys, name, said):
    with pytest.raises(SystemExit) as ended:
        call_command("journey", statement=bank_files / "camt053" / name)

    assert ended.value.code == 1
    assert said in " ".join(capsys.readouterr().out.split())
    assert (BankStatement.objects.count(), BankLine.objects.count()) == (0, 0)
    assert JournalEntry.objects.count() == 0
