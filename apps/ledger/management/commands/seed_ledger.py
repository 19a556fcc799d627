"""manage.py seed_ledger: made-up books of a real size, for measuring; never in production."""

import sys
import time
from argparse import ArgumentParser
from typing import override
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from apps.accounts import operations as accounts_operations
from apps.accounts import queries as accounts_queries
from apps.core import clock
from apps.core.errors import Refusal
from apps.core.text import TextRefused, clean
from apps.ledger import operations
from apps.ledger.management.organizations import read_organization
from apps.ledger.operations import SEED_ACTOR, SeedPlan

_ENDED_BY_CTRL_C = 130
_NAME = "Seeded"
# The planner hears of the new rows when there are this many times as many as it knew.
_ANALYZE_GROWTH = 4
# Of so few entries it need not hear at once: autovacuum tells it soon enough.
_ANALYZE_MIN = 10_000


class Command(BaseCommand):
    help = (
        "Fill an organisation with made-up postings. It may be stopped with ^C at any time, and"
        " goes on from there when it is run again."
    )

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        whose = parser.add_mutually_exclusive_group()
        whose.add_argument("--organization", help="org_…")
        whose.add_argument(
            "--name", default=_NAME, help=f"Its name; one that is new is made. Else it is {_NAME}."
        )
        parser.add_argument("--postings", type=int, required=True, help="Two for each entry.")
        parser.add_argument("--accounts", type=int, default=10_000, help="Wallets.")
        parser.add_argument("--months", type=int, default=24, help="How long the history is.")
        parser.add_argument("--seed", type=int, default=1, help="Another one draws other entries.")
        parser.add_argument("--chunk", type=int, default=50_000, help="Entries per transaction.")

    @override
    def handle(
        self,
        *,
        postings: int,
        accounts: int = 10_000,
        months: int = 24,
        seed: int = 1,
        chunk: int = 50_000,
        organization: str | None = None,
        name: str = _NAME,
        **_: object,
    ) -> None:
        numbers = {"postings": postings, "accounts": accounts, "months": months, "seed": seed}
        try:
            operations.check_seeding(**numbers)
            plan = operations.plan_seeding(
                organization_id=_organization_id(organization, name), **numbers, now=clock.now()
            )
            operations.relay_opened()
            self._write(plan, max(1, chunk))
        except Refusal as refusal:
            raise CommandError(refusal.message) from None
        except KeyboardInterrupt:
            self.stderr.write("Stopped; the same command goes on from here.")
            sys.exit(_ENDED_BY_CTRL_C)

    def _write(self, plan: SeedPlan, chunk: int) -> None:
        started, analyzed = time.perf_counter(), 0
        done = first = operations.seed_entries(plan=plan, limit=0)
        while done < plan.entries:
            done = operations.seed_entries(plan=plan, limit=chunk)
            is_due = done > _ANALYZE_GROWTH * analyzed or done == plan.entries
            if is_due and done > _ANALYZE_MIN:
                operations.analyze_seeded()
                analyzed = done
            rate = 2 * (done - first) / (time.perf_counter() - started)
            self.stdout.write(
                f"{2 * done:>12,} of {2 * plan.entries:,} postings, {rate:,.0f} a second"
            )
            self.stdout.flush()


def _organization_id(printed: str | None, name: str) -> UUID:
    if printed is not None:
        return read_organization(printed)
    try:
        name = clean(name).strip()
    except TextRefused as fault:
        msg = f"--name: {fault}"
        raise CommandError(msg) from None
    if not name:
        raise CommandError("--name: This may not be empty.")
    found = accounts_queries.find_live_organization(name=name)
    if found is None:
        found = accounts_operations.create_organization(
            name=name, actor=SEED_ACTOR, now=clock.now()
        )
    return found.id
