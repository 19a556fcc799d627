"""Statements, and the chain that those of an account make."""

from uuid import UUID

from django.db.models import Exists, OuterRef, QuerySet

from apps.banking import errors
from apps.banking.models import BankStatement
from apps.banking.rules import KnownStatement, StatementFacts
from apps.banking.states import Source, StatementState


def get_statement(*, organization_id: UUID, statement_id: UUID) -> BankStatement:
    """
    Return the statement.

    :raises BankStatementNotFound: if the organization has no such statement
    """
    found = BankStatement.objects.filter(organization_id=organization_id, id=statement_id).first()
    if found is None:
        raise errors.BankStatementNotFound("There is no such statement.")
    return found


def list_statements(
    *, organization_id: UUID, bank_file_id: UUID | None = None
) -> QuerySet[BankStatement]:
    """Return statements, newest first, of one file where given."""
    rows = BankStatement.objects.filter(organization_id=organization_id)
    if bank_file_id is not None:
        rows = rows.filter(bank_file_id=bank_file_id)
    return rows.order_by("-id")


def list_known_statements(*, organization_id: UUID, bank_account_id: UUID) -> list[KnownStatement]:
    """Return the account's chain; the account is locked by whoever extends it."""
    followers = BankStatement.objects.filter(
        organization_id=organization_id, previous_id=OuterRef("id")
    )
    rows = BankStatement.objects.filter(
        organization_id=organization_id,
        bank_account_id=bank_account_id,
        source=Source.STATEMENT,
        state=StatementState.IMPORTED,
    ).annotate(is_followed=Exists(followers))
    return [
        KnownStatement(
            id=row.id,
            facts=StatementFacts(
                statement_id=row.statement_id,
                sequence=row.sequence,
                # The table's own constraint: an imported statement has its balances and dates.
                opening_date=row.opening_date,  # type: ignore[arg-type]
                closing_date=row.closing_date,  # type: ignore[arg-type]
                opening_minor=row.opening_minor,  # type: ignore[arg-type]
                closing_minor=row.closing_minor,  # type: ignore[arg-type]
                lines_digest=bytes(row.lines_digest),
            ),
            chain=row.chain,
            is_followed=row.is_followed,
        )
        for row in rows.order_by("closing_date", "id")
    ]
