"""An entry as each format of the export has it, whose it is, and how it is read."""

import csv
import io
from datetime import datetime, timedelta, timezone

import pytest
from django.db import connection

from apps.core import transactions
from apps.core.ids import encode_id
from apps.ledger import queries
from apps.ledger.models import JournalEntry
from tests.ledger.factories import create_organization, fund, open_account, post_transfer
from tests.ledger.test_export_and_verify import export

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rent():
    """Rent of the last evening of May, by UTC, that was recorded later; and somebody else's."""
    organization, other = create_organization(), create_organization("Southwind")
    ann, bob = (open_account(organization, f"wallets:{name}:EUR") for name in ("ann", "bob"))
    fund(organization, ann, 7)
    fund(other, open_account(other, "wallets:cy:EUR"), 9)
    posted = post_transfer(
        organization, ann, bob, 7, key="may", reference="=r-1", description="Rent of May",
        effective_at=datetime(2026, 6, 1, 0, 30, tzinfo=timezone(timedelta(hours=2))), force=True,
    )  # fmt: skip
    return JournalEntry.objects.get(id=posted.entry_id)


def test_csv_says_all_of_it_by_both_clocks(rent, tmp_path):
    rows = csv.DictReader(io.StringIO(export(rent.organization_id, "csv", tmp_path)))

    shared = {
        "entry": encode_id("je", rent.id), "kind": "transfer", "reference": "'=r-1",
        "description": "Rent of May", "effective_at": "2026-05-31T22:30:00+00:00",
        "recorded_at": rent.recorded_at.isoformat(), "currency": "EUR",
    }  # fmt: skip
    assert [row for row in rows if row["entry"] == shared["entry"]] == [
        shared | {"account": f"wallets:{name}:EUR", "amount_minor": minor, "amount": amount}
        for name, minor, amount in (("ann", "7", "0.07"), ("bob", "-7", "-0.07"))
    ]


@pytest.mark.parametrize(
    ("format_", "lines"),
    [
        (
            "beancount",
            [
                '2026-05-31 * "transfer" "Rent of May"',
                '  id: "{entry}"',
                '  reference: "=r-1"',
                "  Liabilities:Wallets:Ann:EUR  0.07 EUR",
                "  Liabilities:Wallets:Bob:EUR  -0.07 EUR",
            ],
        ),
        (
            "hledger",
            [
                "2026-05-31 * ({entry}) transfer: Rent of May",
                "    ; reference: =r-1",
                "    liabilities:wallets:ann:EUR  0.07 EUR",
                "    liabilities:wallets:bob:EUR  -0.07 EUR",
            ],
        ),
    ],
)
def test_other_tools_read_it_on_its_business_day(rent, tmp_path, format_, lines):
    text = export(rent.organization_id, format_, tmp_path)

    block = "\n".join(lines).format(entry=encode_id("je", rent.id))
    assert f"\n{block}\n" in text


@pytest.mark.parametrize("format_", ["beancount", "csv", "hledger", "jsonl"])
def test_is_among_those_of_its_organization_alone(rent, tmp_path, format_):
    text = export(rent.organization_id, format_, tmp_path)

    assert "Rent of May" in text
    assert not {"cy", "Cy"} & set(text.replace(":", " ").split())
    others = JournalEntry.objects.exclude(organization_id=rent.organization_id)
    assert not [id_ for id_ in others.values_list("id", flat=True) if encode_id("je", id_) in text]


def test_comes_through_a_cursor_of_the_servers(rent):
    with transactions.snapshot():
        entries = queries.stream_entries(organization_id=rent.organization_id, chunk=1)
        first = next(entries)
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM pg_cursors")
            names = cursor.fetchall()
        rest = list(entries)

    assert len(names) == 1
    assert [first.kind, *(entry.kind for entry in rest)] == ["transfer", "transfer"]
