"""The books proved: by our own recount, and by beancount, which knows nothing of us."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from beancount import loader
from beancount.core import realization
from django.core.management import call_command

from apps.core.ids import encode_id
from apps.core.money import exponent
from apps.ledger import queries
from apps.ledger.formats.beancount import account_name
from apps.ledger.formats.tables import escape_formula
from apps.ledger.models import JournalEntry, Posting
from tests.ledger.factories import (
    balance,
    create_organization,
    fund,
    open_account,
    post_transfer,
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def books():
    organization = create_organization()
    for currency, amount in (("EUR", 100_50), ("JPY", 9_000), ("KWD", 7_125)):
        ann = open_account(organization, f"customers:cus_ann:available:{currency}")
        bob = open_account(organization, f"customers:cus_bob:available:{currency}")
        fund(organization, ann, amount, currency=currency)
        post_transfer(
            organization, ann, bob, amount // 3, key=currency, currency=currency,
            description='Rent "June" \\ =1+1', reference=f"ref-{currency}",
        )  # fmt: skip
    return organization


def export(organization, format_: str, tmp_path) -> str:
    path = tmp_path / f"journal.{format_}"
    call_command(
        "export_journal", organization=encode_id("org", organization), format=format_, output=path
    )
    return path.read_text(encoding="utf-8")


class TestExportJournal:
    def test_beancount_finds_our_balances_to_the_unit(self, books, tmp_path):
        text = export(books, "beancount", tmp_path)

        entries, errors, _ = loader.load_string(text)

        assert errors == []
        root = realization.realize(entries)
        for view in queries.list_balances(organization_id=books):
            real = realization.get(root, account_name(view.code, view.type))
            net = view.posted if view.type in {"asset", "expense"} else -view.posted
            expected = Decimal(net).scaleb(-exponent(view.currency))
            assert real.balance.get_currency_units(view.currency).number == expected

    def test_beancount_sees_an_amount_that_was_altered(self, books, tmp_path):
        text = export(books, "beancount", tmp_path).replace("33.50 EUR", "33.51 EUR", 1)

        _, errors, _ = loader.load_string(text)

        assert errors

    def test_beancount_sees_a_balance_that_is_off_by_one_unit(self, books, tmp_path):
        text = export(books, "beancount", tmp_path).replace("67.00 ~", "67.01 ~")

        _, errors, _ = loader.load_string(text)

        assert [type(error).__name__ for error in errors] == ["BalanceError"]

    def test_beancount_takes_entries_of_any_year_in_any_order(self, books, tmp_path):
        ids = queries.account_ids(
            organization_id=books,
            codes=["customers:cus_ann:available:EUR", "customers:cus_bob:available:EUR"],
        )
        for year in (2199, 1901, 2026):
            post_transfer(
                books, *ids.values(), 1, key=f"year-{year}",
                effective_at=datetime(year, 12, 31, 23, tzinfo=UTC), force=True,
            )  # fmt: skip

        _, errors, _ = loader.load_string(export(books, "beancount", tmp_path))

        assert errors == []

    def test_csv_reads_back_and_runs_no_formula(self, books, tmp_path):
        rows = list(csv.DictReader(io.StringIO(export(books, "csv", tmp_path))))

        assert len(rows) == Posting.objects.count()
        assert sum(int(row["amount_minor"]) for row in rows) == 0
        assert escape_formula("=1+1") == "'=1+1"
        assert escape_formula("Rent") == "Rent"

    def test_json_lines_hold_every_entry(self, books, tmp_path):
        lines = [json.loads(line) for line in export(books, "jsonl", tmp_path).splitlines()]

        assert len(lines) == JournalEntry.objects.count()
        assert all(sum(p["amount"] for p in line["postings"]) == 0 for line in lines)

    def test_leaves_no_half_file_when_it_fails(self, tmp_path):
        path = tmp_path / "journal.beancount"

        with pytest.raises(Exception, match="well-formed"):
            call_command("export_journal", organization="org_x", output=path)

        assert not path.exists()


def test_the_trial_balance_is_zero_per_currency(books):
    totals = queries.trial_balance_totals(queries.trial_balance(organization_id=books))

    assert totals == {"EUR": (100_50, 100_50), "JPY": (9_000, 9_000), "KWD": (7_125, 7_125)}
    [bank] = queries.account_ids(organization_id=books, codes=["bank:ba_1:KWD"]).values()
    assert balance(books, bank).posted == 7_125
