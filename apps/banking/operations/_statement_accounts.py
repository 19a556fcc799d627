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

    def refuse_wrong(self, *, expected: UUID | None) -> None:
        """Refuse statements of another account than asked for, or in another currency than ours."""
        problems = [
            problem
            for statement in self._statements
            if (problem := self._problem(statement, expected)) is not None
        ]
        if problems:
            raise FileRefused(problems)

    def unknown(self) -> list[Problem]:
        """Return what is to be said of each statement of no account of ours."""
        return [
            _problem(
                "unknown_account",
                f"The account …{statement.account.identification[-4:]} in {statement.currency} is"
                " none of ours; the file is kept and read again once it is added.",
                statement,
            )
            for statement in self._statements
            if self.of(statement) is None
        ]

    def _problem(self, statement: Statement, expected: UUID | None) -> Problem | None:
        account = self.of(statement)
        tail = statement.account.identification[-4:]
        if expected is not None and (account is None or account.id != expected):
            message = (
                f"The statement is of the account …{tail}, not of {encode_id('ba', expected)}."
            )
            return _problem("other_account", message, statement)
        ours = {key[1] for key in self._found if key[0] == self.index(statement)}
        if account is None and ours:
            message = (
                f"The statement is in {statement.currency},"
                f" the account …{tail} is kept in {', '.join(sorted(ours))}."
            )
            return _problem("currency_mismatch", message, statement)
        return None


def _problem(code: str, message: str, statement: Statement) -> Problem:
    return Problem(code=code, message=message, statement=statement.name, line=statement.source_line)
