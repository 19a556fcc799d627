"""manage.py grant_ledger: give a role of the application what it may do with the books."""

from argparse import ArgumentParser
from typing import override

from django.apps import apps
from django.core.management.base import BaseCommand
from django.db import connection

from apps.ledger.models import (
    Balance,
    BalanceMonitor,
    ChainHead,
    Hold,
    LedgerAccount,
    MonthlyTotal,
    Period,
)

# What changes by its nature. Everything else is written once: the guards refuse any change, and
# the role has no right to try.
CHANGING = (Balance, BalanceMonitor, ChainHead, Hold, LedgerAccount, MonthlyTotal, Period)


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
        changing = {model._meta.db_table for model in CHANGING}
        tables = sorted(
            model._meta.db_table for model in apps.get_app_config("ledger").get_models()
        )
        with connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"REVOKE ALL ON {quote(table)} FROM {quote(role)}")
                rights = "SELECT, INSERT, UPDATE" if table in changing else "SELECT, INSERT"
                cursor.execute(f"GRANT {rights} ON {quote(table)} TO {quote(role)}")
                self.stdout.write(f"{table}: {rights}")
