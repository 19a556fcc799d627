"""manage.py export_journal: the journal as beancount, CSV or JSON lines, streamed."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import TextIO, override

from django.core.management.base import BaseCommand

from apps.core import transactions
from apps.core.ids import decode_id
from apps.ledger import queries
from apps.ledger.formats import WRITERS


class Command(BaseCommand):
    help = "Write an organisation's journal; beancount's own bean-check can then verify it."

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organization", required=True, help="org_…")
        parser.add_argument("--format", choices=sorted(WRITERS), default="beancount")
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
        count = 0
        with transactions.snapshot():
            accounts = queries.export_accounts(organization_id=organization_id)
            entries = queries.stream_entries(organization_id=organization_id)
            for line in WRITERS[format_](accounts, entries):
                file.write(line)
                count += line.count("\n")
        return count
