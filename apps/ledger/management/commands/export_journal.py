"""manage.py export_journal: the journal as beancount, hledger, CSV or JSON lines, streamed."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TextIO, override
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from apps.core import clock, outbox, transactions
from apps.core.ids import new_id
from apps.ledger import operations, queries
from apps.ledger.formats import WRITERS, journal
from apps.ledger.management.organizations import read_organization

# What import_journal reads.
COMPLETE: Final = "jsonl"
TRIES: Final = 20
PROGRESS: Final = 100_000
_EVER: Final = datetime.max.replace(tzinfo=UTC)


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
        organization_id = read_organization(organization)
        if output is None:
            self._write_out(organization_id, format)
            return
        count = self._write_to(organization_id, format, output)
        self.stderr.write(f"{output}: {count:,} lines.")

    def _write_out(self, organization_id: UUID, format_: str) -> None:
        try:
            self._write(organization_id, format_, sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:
            # Nobody reads it any more: what Python would still flush as it ends goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            msg = "Standard output: nobody reads it any more."
            raise CommandError(msg) from None

    def _write_to(self, organization_id: UUID, format_: str, output: Path) -> int:
        try:
            if output.exists() and not output.is_file():
                # A pipe or a device is written to: nothing takes its place.
                with output.open("w", encoding="utf-8", newline="") as file:
                    return self._write(organization_id, format_, file)
            # What a link leads to is written, and the link stays.
            return self._write_file(organization_id, format_, output.resolve())
        except OSError as fault:
            msg = f"{output}: {fault.strerror or fault}."
            raise CommandError(msg) from None

    def _write_file(self, organization_id: UUID, format_: str, final: Path) -> int:
        # A half-written file is never left under the name asked for; and each export has its own,
        # however many are written at once.
        partial = final.with_name(f"{final.name}.{new_id()}.partial")
        try:
            with partial.open("x", encoding="utf-8", newline="") as file:
                count = self._write(organization_id, format_, file)
            partial.replace(final)
        finally:
            partial.unlink(missing_ok=True)
        return count

    def _write(self, organization_id: UUID, format_: str, file: TextIO) -> int:
        if format_ == COMPLETE:
            return self._write_complete(organization_id, file)
        with transactions.long_snapshot():
            accounts = queries.export_accounts(organization_id=organization_id)
            entries = queries.stream_entries(organization_id=organization_id)
            return self._write_lines(WRITERS[format_](accounts, entries), file)

    def _write_complete(self, organization_id: UUID, file: TextIO) -> int:
        # It is written in the order of the chain, so what waits is sealed first; and what is posted
        # between that and the snapshot would be in its balances and holds and in no line of an
        # entry.
        for _ in range(TRIES):
            outbox.relay_organization(organization_id=organization_id)
            while operations.seal_entries(organization_id=organization_id, now=clock.now()):
                pass
            with transactions.long_snapshot():
                if not queries.count_unsealed(organization_id=organization_id, until=_EVER):
                    with closing(queries.stream_journal(organization_id=organization_id)) as lines:
                        return self._write_lines(journal.write(lines), file)
        msg = "Entries are posted faster than they are sealed; export while nothing is posted."
        raise CommandError(msg)

    def _write_lines(self, lines: Iterable[str], file: TextIO) -> int:
        count = 0
        for written, line in enumerate(lines, 1):
            file.write(line)
            count += line.count("\n")
            if written % PROGRESS == 0:
                # Beside the journal, which may go to standard output.
                self.stderr.write(f"{count:,} lines so far")
                self.stderr.flush()
        return count
