"""Which lines of a new statement an account has already."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Exists, OuterRef

from apps.banking.models import BankLine

# Counted where they are: many statements of a day may have one line many times, and each of them
# would bring all of those before it.
_EQUALS: Final = """
    SELECT identity, MAX(occurrence)
      FROM banking_line
     WHERE organization_id = %s AND bank_account_id = %s AND source = %s AND identity = ANY(%s)
     GROUP BY identity
"""
_SHARED: Final = """
    SELECT statement_id, COUNT(*)
      FROM banking_line
     WHERE organization_id = %s AND bank_account_id = %s AND source = %s AND identity = ANY(%s)
     GROUP BY statement_id
"""
_LINES_OF: Final = """
    SELECT statement_id, COUNT(*)
      FROM banking_line
     WHERE organization_id = %s AND statement_id = ANY(%s)
     GROUP BY statement_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLines:
    """
    Which of a statement's lines the account has already.

    `counts`: how many equals of each, whose occurrences are 1 to that; `by_statement`: how many
    lines with these identities each statement brought.
    """

    counts: dict[bytes, int]
    by_statement: dict[UUID, int]


def find_known_lines(
    *, organization_id: UUID, bank_account_id: UUID, source: str, identities: Sequence[bytes]
) -> KnownLines:
    """Return what the account has of lines that share an identity with these; it is locked."""
    asked = (organization_id, bank_account_id, source, list(set(identities)))
    with connection.cursor() as cursor:
        cursor.execute(_EQUALS, asked)
        counts = {bytes(identity): number for identity, number in cursor.fetchall()}
        cursor.execute(_SHARED, asked)
        return KnownLines(counts=counts, by_statement=dict(cursor.fetchall()))


def count_lines(*, organization_id: UUID, statement_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return how many lines each of these statements brought."""
    with connection.cursor() as cursor:
        cursor.execute(_LINES_OF, [organization_id, list(statement_ids)])
        return dict(cursor.fetchall())


def list_twin_candidates(
    *, organization_id: UUID, bank_account_id: UUID, source: str, refs: Collection[str]
) -> list[BankLine]:
    """Return booked lines of the other source with these references that have no twin yet."""
    taken = BankLine.objects.filter(organization_id=organization_id, same_as_id=OuterRef("id"))
    return list(
        BankLine.objects.filter(
            organization_id=organization_id,
            bank_account_id=bank_account_id,
            source=source,
            is_booked=True,
            same_as__isnull=True,
            account_servicer_ref__in=list(refs),
        )
        .exclude(Exists(taken))
        .order_by("booking_date", "id")
    )
