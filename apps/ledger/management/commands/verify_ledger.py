"""manage.py verify_ledger: recompute the books and name the first row that is wrong."""

import sys
from argparse import ArgumentParser
from typing import override

from django.core.management.base import BaseCommand
from django.db import connection

from apps.core import invariants
from apps.core.invariants import Breach


class Command(BaseCommand):
    help = "Recompute balances, versions, holds and sums from the postings; exit 1 on a fault."

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--quiet", action="store_true", help="Print faults only.")

    @override
    def handle(self, *, quiet: bool = False, **_: object) -> None:
        statements = invariants.collect(only_apps=frozenset({"ledger"}))
        found: list[Breach] = []
        for name, breach in invariants.check(statements):
            if breach is not None:
                found.append(breach)
                self._print_breach(breach)
            elif not quiet:
                self.stdout.write(f"  ok  {name}")
        self._print_summary(len(found), quiet=quiet)
        if found:
            sys.exit(1)

    def _print_breach(self, breach: Breach) -> None:
        self.stdout.write(self.style.ERROR(f"FAULT {breach.name}"))
        for row in breach.rows:
            self.stdout.write("      " + ", ".join(f"{key}={value}" for key, value in row.items()))

    def _print_summary(self, faults: int, *, quiet: bool) -> None:
        if faults:
            self.stdout.write(self.style.ERROR(f"The ledger is WRONG: {faults} checks failed."))
        elif not quiet:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT (SELECT COUNT(*) FROM ledger_journal_entry),"
                    " (SELECT COUNT(*) FROM ledger_posting)"
                )
                entries, postings = cursor.fetchone() or (0, 0)
            self.stdout.write(
                self.style.SUCCESS(
                    f"The ledger is right: {entries:,} entries, {postings:,} postings recomputed."
                )
            )
