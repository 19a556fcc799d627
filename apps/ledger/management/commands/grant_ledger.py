"""manage.py grant_ledger: give a role of the application what it may do with the books."""

from argparse import ArgumentParser
from typing import override

from django.core.management.base import BaseCommand
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
        with connection.cursor() as cursor:
            for table, may_change in tables().items():
                cursor.execute(f"REVOKE ALL ON {quote(table)} FROM {quote(role)}")
                rights = "SELECT, INSERT, UPDATE" if may_change else "SELECT, INSERT"
                cursor.execute(f"GRANT {rights} ON {quote(table)} TO {quote(role)}")
                self.stdout.write(f"{table}: {rights}")
