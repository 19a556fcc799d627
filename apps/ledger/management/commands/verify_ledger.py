"""manage.py verify_ledger: recompute the books and name the first row that is wrong."""

import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from typing import Final, override
from uuid import UUID

from django.core.management.base import BaseCommand
from django.db import connection

from apps.core import clock, invariants, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.core.invariants import Invariant
from apps.ledger import operations, queries
from apps.ledger.invariants import INVARIANTS, RECOUNTS
from apps.ledger.management.organizations import read_organization

_PROGRESS_SECONDS: Final = 5.0


class Command(BaseCommand):
    help = (
        "Recompute balances, versions, holds, sums, months, stored trial balances and audit chains "
        "from the entries; "
        "exit 1 on a fault. It reads one snapshot, waits for nobody, and nobody waits for it."
    )

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organization", help="org_…; every organisation without it.")
        parser.add_argument("--quiet", action="store_true", help="Print faults only.")

    @override
    def handle(self, *, organization: str | None = None, quiet: bool = False, **_: object) -> None:
        self.quiet, self.faults = quiet, 0
        only = None if organization is None else read_organization(organization)
        sound: dict[UUID, queries.ChainStatus] = {}
        # It takes as long as the books are large: all of it is of one snapshot.
        with transactions.long_snapshot():
            with connection.cursor() as cursor:
                # Sorts of millions of postings, by one session that an operator started, and
                # every stream of sound books is read to its end.
                cursor.execute("SET LOCAL work_mem = '256MB'; SET LOCAL cursor_tuple_fraction = 1")
            self._check_statements(INVARIANTS | RECOUNTS, only)
            for organization_id in queries.list_chained_organizations() if only is None else [only]:
                if self._check_organization(organization_id):
                    status = queries.chain_status(organization_id=organization_id)
                    sound[organization_id] = status
            summary = self._summary(only)
        self._keep(sound)
        self.stdout.write(summary) if summary else None
        if self.faults:
            sys.exit(1)

    def _check_statements(self, statements: Mapping[str, Invariant], only: UUID | None) -> None:
        progress = self._progress("statements")
        for count, step in enumerate(invariants.steps(statements, organization_id=only), 1):
            progress(count)
            if step.breach is not None:
                self._print_fault(step.breach.name, *step.breach.rows)
            elif step.is_done:
                self._say(f"  ok  {step.name}")

    def _check_organization(self, organization_id: UUID) -> bool:
        """Recompute one chain and look for each event's entry; true if both are right."""
        printed = encode_id("org", organization_id)
        before = self.faults
        fault = queries.find_chain_fault(
            organization_id=organization_id, on_progress=self._progress(f"{printed} links")
        )
        if fault is not None:
            row = {"position": fault.position, "entry": fault.entry, "what": fault.what}
            self._print_fault("ledger_chain_is_what_was_sealed", {"organization": printed, **row})
        lost = queries.find_event_without_entry(
            organization_id=organization_id, on_progress=self._progress(f"{printed} events")
        )
        if lost is not None:
            row = {"entry": lost, "what": "an event without its entry"}
            self._print_fault("ledger_event_has_its_entry", {"organization": printed, **row})
        if self.faults > before:
            return False
        self._say(f"  ok  the chain of {printed}, and each event's entry")
        return True

    def _progress(self, what: str) -> Callable[[int], None]:
        told_at = time.monotonic()

        def tell(count: int) -> None:
            nonlocal told_at
            if time.monotonic() - told_at > _PROGRESS_SECONDS:
                told_at = time.monotonic()
                self._say(f"      {what}: {count:,} so far")

        return tell

    def _say(self, line: str) -> None:
        if not self.quiet:
            self.stdout.write(line)
            self.stdout.flush()

    def _print_fault(self, name: str, *rows: Mapping[str, object]) -> None:
        self.faults += 1
        self.stdout.write(self.style.ERROR(f"FAULT {name}"))
        for row in rows:
            self.stdout.write("      " + ", ".join(f"{key}={value}" for key, value in row.items()))

    def _summary(self, only: UUID | None) -> str:
        if self.faults:
            return self.style.ERROR(f"The ledger is WRONG: {self.faults} checks failed.")
        if self.quiet:
            return ""
        entries, postings = queries.count_entries_and_postings(organization_id=only)
        return self.style.SUCCESS(
            f"The ledger is right: {entries:,} entries, {postings:,} postings recomputed."
        )

    def _keep(self, sound: Mapping[UUID, queries.ChainStatus]) -> None:
        """Note which chains were verified, after the snapshot, which cannot write."""
        for organization_id, status in sound.items():
            operations.record_verification(
                organization_id=organization_id,
                position=status.position,
                hash_=status.hash,
                actor=Actor.job("verify_ledger"),
                now=clock.now(),
            )
