"""Make the first two admins, who make everybody else."""

import sys
from getpass import getpass
from typing import Any, override

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.accounts import operations
from apps.core import clock
from apps.core.errors import Refusal


class Command(BaseCommand):
    help = "Create one of the first two admins; works only while there are fewer."

    @override
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("email")
        parser.add_argument("--name", default="")

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        try:
            staff = operations.create_first_admin(
                email=options["email"],
                name=options["name"] or options["email"],
                password=_password(),
                now=clock.now(),
            )
        except Refusal as refusal:
            raise CommandError(refusal.message) from None
        self.stdout.write(f"{staff.email} is an admin.")


def _password() -> str:
    # Never an argument: those stand in the process list and in the shell's history.
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\n")
    password = getpass("Password, at least 15 characters: ")
    if getpass("Again: ") != password:
        raise CommandError("The two are not the same.")
    return password
