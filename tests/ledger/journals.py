"""Journals exported and imported as an operator does it, and books without their ids."""

import json

import pytest
from django.core.management import CommandError, call_command

from apps.core.ids import encode_id
from apps.ledger.models import (
    Balance,
    ChainHead,
    ChainLink,
    EntryMetadata,
    JournalEntry,
    LedgerAccount,
    Posting,
)
from apps.ledger.operations import _importing
from tests.ledger.factories import create_organization


def export(organization, path):
    call_command("export_journal", organization=encode_id("org", organization), format="jsonl",
                 output=path)  # fmt: skip
    return path


def run_import(organization, path) -> None:
    call_command("import_journal", path, organization=encode_id("org", organization))


def import_one_more(organization, path, monkeypatch) -> None:
    """Import up to the next entry, with the accounts where they are not there yet, and no more."""
    real, calls = _importing._post, []

    def stop_in_the_second(*values):
        calls.append(values)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(*values)

    with monkeypatch.context() as stopping:
        stopping.setattr(_importing, "PORTION", 1)
        stopping.setattr(_importing, "_post", stop_in_the_second)
        with pytest.raises(KeyboardInterrupt):
            run_import(organization, path)


def books_of(organization):
    """Return all of an organisation's books but the ids."""
    codes = dict(
        LedgerAccount.objects.filter(organization_id=organization).values_list("id", "code")
    )
    accounts = LedgerAccount.objects.filter(organization_id=organization).order_by("code")
    balances = Balance.objects.filter(organization_id=organization)
    links = ChainLink.objects.filter(organization_id=organization)
    positions = dict(links.values_list("entry_id", "position"))
    entries = JournalEntry.objects.filter(organization_id=organization)
    postings = Posting.objects.filter(organization_id=organization)
    metadata = EntryMetadata.objects.filter(organization_id=organization)
    return {
        "accounts": list(accounts.values_list("code", "type", "currency", "metadata")),
        "balances": sorted(
            (codes[row.pop("id")], sorted((key, str(value)) for key, value in row.items()))
            for row in balances.values("id", "currency", "credit_normal", "internal", "status",
                                       "min_available_minor", "posted_debits", "posted_credits",
                                       "pending_debits", "pending_credits",
                                       "version", "latest_effective_at")
        ),
        "entries": sorted(
            (positions[e.id], e.kind, e.reference, e.description, e.effective_at, e.recorded_at,
             e.actor, json.dumps(e.metadata, sort_keys=True), positions.get(e.reverses_id))
            for e in entries
        ),
        "postings": sorted(
            (positions[p.entry_id], p.number, codes[p.account_id], p.amount_minor, p.currency,
             p.account_version, p.balance_after_minor, p.effective_at, p.recorded_at)
            for p in postings
        ),
        "metadata": [(positions[m.entry_id], m.number, m.metadata, m.actor, m.recorded_at)
                     for m in metadata],
        "chain": list(ChainHead.objects.filter(organization_id=organization)
                      .values_list("position", "hash")),
    }  # fmt: skip


def rewrite(path, number: int, change) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    changed = json.loads(lines[number - 1]) | change
    lines[number - 1] = json.dumps(changed).encode() + b"\n"
    path.write_bytes(b"".join(lines))


def refused(path, what: str) -> None:
    target = create_organization("Target")
    with pytest.raises(CommandError, match=f"journal_file_refused: {what}"):
        run_import(target, path)
    assert not LedgerAccount.objects.filter(organization_id=target).exists()
