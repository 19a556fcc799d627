"""manage.py check_invariants: run every app's invariants and name what breaks them."""

import sys
from argparse import ArgumentParser
from typing import override

from django.core.management.base import BaseCommand, CommandError

from apps.core import findings, invariants


class Command(BaseCommand):
    help = "Run every invariant (SQL that must return no row); exit 1 if one is broken."

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--app", action="append", help="Only this app's; may be repeated.")
        parser.add_argument(
            "--keep",
            action="store_true",
            help="Keep what was found, as the job does: for the home page, and for what waits.",
        )

    @override
    def handle(
        self, *, app: list[str] | None = None, keep: bool = False, verbosity: int = 1, **_: object
    ) -> None:
        if app and keep:
            msg = "Only a run of all apps' invariants is kept: leave out --app or --keep."
            raise CommandError(msg)
        statements = invariants.collect(only_apps=frozenset(app) if app else None)
        broken = list[str]()
        for name, breach in invariants.check(statements):
            if breach is None:
                if verbosity > 1:
                    self.stdout.write(f"ok      {name}")
                continue
            broken.append(name)
            self.stdout.write(self.style.ERROR(f"BROKEN  {name}"))
            for row in breach.rows:
                self.stdout.write("        " + ", ".join(f"{k}={v}" for k, v in row.items()))
        self.stdout.write(f"{len(statements)} invariants checked, {len(broken)} broken.")
        if keep:
            findings.keep_whole(list(statements), broken)
        if broken:
            sys.exit(1)
