"""manage.py release_work: give quarantined or failed work another chance, with a reason."""

import getpass
from argparse import ArgumentParser
from typing import override
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from apps.core import operations, work
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.work import SET_ASIDE


class Command(BaseCommand):
    help = "Release work that was set aside. Without a row, list what waits to be released."

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--kind", choices=[kind.name for kind in work.kinds()])
        parser.add_argument("--row", type=UUID)
        parser.add_argument("--reason", default="")

    @override
    def handle(
        self, *, kind: str | None = None, row: UUID | None = None, reason: str = "", **_: object
    ) -> None:
        if row is None:
            self._list(kind)
            return
        if kind is None or not reason:
            raise CommandError("A release needs --kind, --row and --reason.")
        actor = Actor(kind="job", id="release_work", principal=f"shell:{getpass.getuser()}")
        try:
            operations.release_work(kind_name=kind, row_id=row, reason=reason, actor=actor)
        except Refusal as refusal:
            raise CommandError(refusal.message) from None
        self.stdout.write(f"{kind} {row} is due now.")

    def _list(self, only: str | None) -> None:
        for kind in work.kinds():
            if only in {None, kind.name}:
                for row in kind.model.objects.filter(state__in=SET_ASIDE).order_by("id"):
                    told = f"{row.state}, {row.attempts} attempts, {row.last_error_code}"
                    self.stdout.write(f"{kind.name} {row.id} {told}")
