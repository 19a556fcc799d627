"""manage.py import_journal: post an exported journal into an empty organisation."""

from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import override

from django.core.management.base import BaseCommand, CommandError

from apps.core import clock, outbox
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.ledger import operations, queries
from apps.ledger.management.organizations import read_organization


class Command(BaseCommand):
    help = (
        "Post what export_journal --format jsonl wrote into an empty organisation: the same "
        "balances, holds and closed months, and the same audit chain. It may be stopped at any "
        "time, and run again."
    )

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path)
        parser.add_argument("--organization", required=True, help="org_…")

    @override
    def handle(self, *, file: Path, organization: str, **_: object) -> None:
        organization_id = read_organization(organization)
        try:
            file.open("rb").close()
        except OSError as fault:
            msg = f"{file}: {fault.strerror}."
            raise CommandError(msg) from None

        def read() -> Iterator[bytes]:
            with file.open("rb") as lines:
                yield from lines

        try:
            found = operations.import_journal(
                organization_id=organization_id,
                read=read,
                actor=Actor.job("import_journal"),
                now=clock.now(),
                on_progress=self._tell,
            )
        except Refusal as refusal:
            msg = f"{refusal.code}: {refusal.message}"
            raise CommandError(msg) from refusal
        outbox.relay_organization(organization_id=organization_id)
        while operations.seal_entries(organization_id=organization_id, now=clock.now()):
            pass
        status = queries.chain_status(organization_id=organization_id)
        if (status.position, status.hash) != (found.entries, found.previous):
            msg = f"The chain came to {status.position:,}, {status.hash.hex()}: not the file's."
            raise CommandError(msg)
        for owner_id, period_id in queries.list_closing():
            if owner_id == organization_id:
                # What it waits for, if anything, the job waits for too.
                operations.finish_closing(
                    organization_id=owner_id, period_id=period_id, now=clock.now()
                )
        self.stdout.write(
            self.style.SUCCESS(
                f"{found.entries:,} entries, and the file's chain: {status.hash.hex()}"
            )
        )

    def _tell(self, what: str, count: int) -> None:
        self.stdout.write(f"{count:,} {what}")
        self.stdout.flush()
