"""manage.py export_journal: the journal as beancount, hledger, CSV or JSON lines, streamed."""

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO, override
from uuid import UUID

from django.core.management.base import BaseCommand

from apps.core import clock, outbox, transactions
from apps.core.ids import decode_id
from apps.ledger import operations, queries
from apps.ledger.formats import WRITERS, journal

# What import_journal reads.
COMPLETE: Final = "jsonl"


class Command(BaseCommand):
    help = (
        "Write an organisation's journal. beancount's own bean-check, or hledger, verifies it; "
        "import_journal reads what jsonl holds into an empty organisation."
    )

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organization", required=True, help="org_…")
        parser.add_argument("--format", choices=sorted([*WRITERS, COMPLETE]), default="beancount")
        parser.add_argument("--output", type=Path, help="A file; standard output without it.")

    @override
    def handle(
        self,
        *,
        organization: str,
        format: str,
        output: Path | None = None,
        **_: object,
    ) -> None:
        if output is None:
            self._write(organization, format, sys.stdout)
            return
        # A half-written file is never left under the name asked for.
        partial = output.with_name(f"{output.name}.partial")
        with partial.open("w", encoding="utf-8", newline="") as file:
            count = self._write(organization, format, file)
        partial.replace(output)
        self.stderr.write(f"{output}: {count:,} lines.")

    def _write(self, organization: str, format_: str, file: TextIO) -> int:
        organization_id = decode_id("org", organization)
        if format_ == COMPLETE:
            # It is written in the order of the chain, so what waits is sealed first.
            outbox.relay_organization(organization_id=organization_id)
            while operations.seal_entries(organization_id=organization_id, now=clock.now()):
                pass
        count = 0
        with transactions.snapshot():
            for line in _lines(organization_id, format_):
                file.write(line)
                count += line.count("\n")
        return count


def _lines(organization_id: UUID, format_: str) -> Iterator[str]:
    if format_ == COMPLETE:
        return journal.write(queries.stream_journal(organization_id=organization_id))
    accounts = queries.export_accounts(organization_id=organization_id)
    return WRITERS[format_](accounts, queries.stream_entries(organization_id=organization_id))
