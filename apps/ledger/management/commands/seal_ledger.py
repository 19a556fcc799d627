"""manage.py seal_ledger: seal every entry that waits, now."""

from argparse import ArgumentParser
from typing import Final, override
from uuid import UUID

from django.core.management.base import BaseCommand

from apps.core import clock, outbox
from apps.core.ids import encode_id
from apps.ledger import operations, queries
from apps.ledger.management.organizations import read_organization

_BATCHES_MAX: Final = 10_000


class Command(BaseCommand):
    help = (
        "Seal the entries that wait into the audit chain. A job does the same each minute; this "
        "may be stopped at any time, and run again."
    )

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organization", help="org_…; every organisation without it.")

    @override
    def handle(self, *, organization: str | None = None, **_: object) -> None:
        if organization is None:
            # What was committed just now need not wait for a worker to number it.
            outbox.relay(limit=_BATCHES_MAX)
            ids = queries.list_organizations_to_seal()
        else:
            ids = [read_organization(organization)]
            outbox.relay_organization(organization_id=ids[0])
        for organization_id in ids:
            self._seal(organization_id)

    def _seal(self, organization_id: UUID) -> None:
        name = encode_id("org", organization_id)
        total = 0
        while count := operations.seal_entries(organization_id=organization_id, now=clock.now()):
            total += count
            self.stdout.write(f"{name}: {total:,} entries sealed")
            self.stdout.flush()
        status = queries.chain_status(organization_id=organization_id)
        self.stdout.write(
            self.style.SUCCESS(f"{name}: position {status.position:,}, hash {status.hash.hex()}")
        )
