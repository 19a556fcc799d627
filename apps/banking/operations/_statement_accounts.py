"""Which account of ours each statement of a file is of."""

from collections.abc import Sequence
from uuid import UUID

from apps.banking import queries
from apps.banking.formats.problems import Problem
from apps.banking.formats.values import Statement
from apps.banking.models import BankAccount
from apps.banking.operations._statements import FileRefused
from apps.core.ids import encode_id


class StatementAccounts:
    """Which account of ours each statement is of."""

    def __init__(self, organization_id: UUID, statements: Sequence[Statement]) -> None:
        self._statements = statements
        self._indexes = {
            identification: queries.identification_index(
                organization_id=organization_id, identification=identification
            )
            for identification in {each.account.identification for each in statements}
        }
        self._found = queries.find_accounts_by_identification(
            organization_id=organization_id, indexes=self._indexes.values()
        )

    @property
    def ids(self) -> list[UUID]:
        return [account.id for account in self._found.values()]

    def index(self, statement: Statement) -> bytes:
        return self._indexes[statement.account.identification]

    def of(self, statement: Statement) -> BankAccount | None:
        return self._found.get((self.index(statement), statement.currency or ""))

    def refuse_wrong(self, *, expected: BankAccount | None) -> None:
        """
        Refuse statements of another account than asked for; in other currencies it is the same.

        A bank keeps one number in several currencies and may tell of all in one file (ADR 0122).
        One of them at least is to be in the currency of the account that was asked for.

        :raises FileRefused: if a statement has another number, or none is of that account
        """
        if expected is None:
            return
        problems = [
            _problem(
                "other_account",
                f"The statement is of the account …{_tail(statement)},"
                f" not of {encode_id('ba', expected.id)}.",
                statement,
            )
            for statement in self._statements
            if self.index(statement) != bytes(expected.identification_index)
        ]
        if not problems and all(each.currency != expected.currency for each in self._statements):
            problems = [
                _problem(
                    "currency_mismatch",
                    f"The statement is in {statement.currency},"
                    f" {encode_id('ba', expected.id)} is kept in {expected.currency}.",
                    statement,
                )
                for statement in self._statements
            ]
        if problems:
            raise FileRefused(problems)

    def unknown(self) -> list[Problem]:
        """Return what is to be said of each statement of no account of ours."""
        return [
            _problem(
                "unknown_account",
                f"The account …{_tail(statement)} in {statement.currency} is none of ours"
                f"{self._elsewhere(statement)}; the file is kept and read again once it is added.",
                statement,
            )
            for statement in self._statements
            if self.of(statement) is None
        ]

    def _elsewhere(self, statement: Statement) -> str:
        ours = sorted(currency for index, currency in self._found if index == self.index(statement))
        return f" (we have it in {', '.join(ours)})" if ours else ""


def _tail(statement: Statement) -> str:
    return statement.account.identification[-4:]


def _problem(code: str, message: str, statement: Statement) -> Problem:
    return Problem(code=code, message=message, statement=statement.name, line=statement.source_line)
