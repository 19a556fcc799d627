"""`manage.py import_statement PATH --bank-account ba_…`: take a bank's file, and say what came."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any, override

from django.core.management.base import BaseCommand, CommandError

from apps.banking import operations, queries
from apps.banking.models import BankAccount, BankFile, BankStatement
from apps.banking.states import Chain, FileState, StatementState
from apps.core import clock
from apps.core.actors import Actor
from apps.core.errors import InvalidInput, NotFound
from apps.core.ids import decode_id, encode_id
from apps.core.money import format_minor

_CHAIN = {
    Chain.FIRST: "the account's first",
    Chain.FOLLOWS: "follows the one before",
    Chain.OVERLAPS: "overlaps what was known",
    Chain.GAP: "a statement is missing before it",
    Chain.NONE: "a notification",
}


class Command(BaseCommand):
    """Import one file; exit 1 where it is refused, naming statement, entry and line."""

    help = "Import a camt.053, camt.054 or pain.002 file."

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", type=Path)
        parser.add_argument(
            "--bank-account",
            required=True,
            metavar="ba_…",
            help="The account the file is of; statements of another account are refused.",
        )

    @override
    def handle(self, *_: Any, path: Path, bank_account: str, **__: Any) -> None:
        account = _find_account(bank_account)
        try:
            content = path.read_bytes()
        except OSError as fault:
            raise CommandError(f"{path}: {fault.strerror}.") from fault
        file = operations.import_bank_file(
            organization_id=account.organization_id,
            content=content,
            name=path.name,
            bank_account_id=account.id,
            actor=Actor.job("import_statement"),
            now=clock.now(),
        )
        if file.state == FileState.REFUSED:
            raise CommandError("\n".join([f"{path.name} is refused.", *_reasons(file)]))
        self.stdout.write(f"{encode_id('bf', file.id)} {file.state}: {file.version or path.name}")
        statements = queries.list_statements(
            organization_id=account.organization_id, bank_file_id=file.id
        )
        for statement in statements.order_by("position"):
            self.stdout.write(_describe(statement))


def _find_account(printed: str) -> BankAccount:
    try:
        account_id = decode_id("ba", printed)
    except (InvalidInput, NotFound) as refusal:
        raise CommandError(f"{printed} is no bank account's id.") from refusal
    # The one query without an organisation: a person at the terminal names the account alone.
    found = BankAccount.objects.filter(id=account_id).first()
    if found is None:
        raise CommandError("There is no such bank account.")
    return found


def _reasons(file: BankFile) -> list[str]:
    rows = []
    for problem in file.problems:
        places = [
            f"{name} {problem[name]}" for name in ("statement", "entry", "line") if problem[name]
        ]
        rows.append(f"  {', '.join([file.name, *places])}: {problem['detail']} ({problem['code']})")
    return rows or [f"  {file.reason}"]


def _describe(statement: BankStatement) -> str:
    head = f"  {statement.statement_id}: {statement.state}, {_CHAIN[Chain(statement.chain)]};"
    if statement.state == StatementState.KNOWN:
        return f"  {statement.statement_id}: known, nothing changed"
    lines = f" {statement.new_line_count} of {statement.line_count} lines are new"
    if statement.opening_minor is None or statement.closing_minor is None:
        return head + lines
    opening = format_minor(statement.opening_minor, statement.currency)
    closing = format_minor(statement.closing_minor, statement.currency)
    return f"{head}{lines}; {opening} to {closing}"
