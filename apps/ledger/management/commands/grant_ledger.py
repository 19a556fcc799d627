"""manage.py grant_ledger: give a role of the application what it may do with the books."""

from argparse import ArgumentParser
from typing import override

from django.core.management.base import BaseCommand, CommandError
from django.db import connection

from apps.ledger.management.rights import tables


class Command(BaseCommand):
    help = (
        "Let a role read and add to the books, and change only what changes by its nature: no "
        "UPDATE of entries, postings, hold events, chain links and their like, no DELETE and no "
        "TRUNCATE anywhere. Run as the owner of the tables, after each migration."
    )

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--role", required=True, help="Such as kassa_web or kassa_worker.")

    @override
    def handle(self, *, role: str, **_: object) -> None:
        quote = connection.ops.quote_name
        _require_role(role)
        given = {
            table: "SELECT, INSERT, UPDATE" if may_change else "SELECT, INSERT"
            for table, may_change in tables().items()
        }
        with connection.cursor() as cursor:
            # One string is one transaction: who posts meanwhile, as that role, is never without.
            cursor.execute(
                "; ".join(
                    f"REVOKE ALL ON {quote(table)} FROM {quote(role)};"
                    f" GRANT {rights} ON {quote(table)} TO {quote(role)}"
                    for table, rights in given.items()
                )
            )
        for table, rights in given.items():
            self.stdout.write(f"{table}: {rights}")


def _require_role(role: str) -> None:
    """
    Look it up before anything is taken or given; what it is named is written into statements then.

    :raises CommandError: if there is none of this name
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", [role])
        if not cursor.fetchall() or '"' in role:
            msg = f"{role!r}: There is no such role."
            raise CommandError(msg)
