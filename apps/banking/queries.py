"""Reads of banking, and the only place here that locks."""

import base64
import json
import zlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from typing import Final
from uuid import UUID

from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet, Subquery

from apps.banking import errors
from apps.banking.formats.pain001 import Address
from apps.banking.formats.values import Counterparty
from apps.banking.models import (
    BankAccount,
    BankConnection,
    BankFile,
    BankLine,
    BankLineDetail,
    BankLineStatus,
    BankStatement,
    CalendarDay,
)
from apps.banking.rules import KnownStatement, OpenDays, StatementFacts
from apps.banking.states import AccountState, LineState, Source, StatementState
from apps.core import encryption

CONTENT_COLUMN: Final = "banking_file.content"
IDENTIFICATION_COLUMN: Final = "banking_account.identification"
LINE_COLUMN: Final = "banking_line.counterparty"
DETAIL_COLUMN: Final = "banking_line_detail.counterparty"
ACCOUNT_PURPOSE: Final = "bank_account"
COUNTERPARTY_PURPOSE: Final = "iban"


# --- Connections and accounts -------------------------------------------------------------------


def get_connection(*, organization_id: UUID, connection_id: UUID) -> BankConnection:
    """
    Return the bank connection.

    :raises BankConnectionNotFound: if the organization has no such connection
    """
    found = BankConnection.objects.filter(organization_id=organization_id, id=connection_id).first()
    if found is None:
        raise errors.BankConnectionNotFound("There is no such bank connection.")
    return found


def get_bank_account(*, organization_id: UUID, bank_account_id: UUID) -> BankAccount:
    """
    Return the bank account.

    :raises BankAccountNotFound: if the organization has no such account
    """
    found = BankAccount.objects.filter(organization_id=organization_id, id=bank_account_id).first()
    if found is None:
        raise errors.BankAccountNotFound("There is no such bank account.")
    return found


def list_bank_accounts(*, organization_id: UUID) -> QuerySet[BankAccount]:
    """Return the organization's accounts, newest first."""
    return BankAccount.objects.filter(organization_id=organization_id).order_by("-id")


def find_accounts_by_identification(
    *, organization_id: UUID, indexes: Iterable[bytes]
) -> dict[tuple[bytes, str], BankAccount]:
    """Return accounts by the blind index of their identification, and currency."""
    rows = BankAccount.objects.filter(
        organization_id=organization_id, identification_index__in=list(indexes)
    )
    return {(bytes(row.identification_index), row.currency): row for row in rows}


def lock_bank_accounts(*, organization_id: UUID, ids: Collection[UUID]) -> None:
    """Lock these accounts in ascending order: one import at a time extends an account's chain."""
    list(
        BankAccount.objects.select_for_update(no_key=True)
        .filter(organization_id=organization_id, id__in=ids)
        .order_by("id")
        .values_list("id", flat=True)
    )


def identification_index(*, organization_id: UUID, identification: str) -> bytes:
    """Return the blind index by which a statement finds its account."""
    compact = "".join(identification.split()).upper()
    return encryption.blind_index(organization_id, ACCOUNT_PURPOSE, compact)


def get_identification(*, account: BankAccount) -> str:
    """Return the account's IBAN, or other id, in clear."""
    return encryption.unseal(
        account.organization_id,
        IDENTIFICATION_COLUMN,
        account.id,
        bytes(account.identification_sealed),
    )


def list_identifications(*, organization_id: UUID, connection_id: UUID) -> list[str]:
    """Return the IBANs of the connection's accounts, in clear: what its bank is asked about."""
    rows = BankAccount.objects.filter(
        organization_id=organization_id, connection_id=connection_id
    ).order_by("id")
    return [get_identification(account=row) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class PayoutAccount:
    """What a payment file says of the account it debits, and when that account's bank closes."""

    id: UUID
    connection_id: UUID
    ledger_account_id: UUID
    currency: str
    iban: str
    bic: str | None
    holder_name: str
    address: Address
    zone: str
    cut_off: time
    is_batch_booked: bool


def get_payout_account(
    *, organization_id: UUID, currency: str, bank_account_id: UUID | None = None
) -> PayoutAccount:
    """
    Return the account that payouts in this currency leave from: that one, or the oldest open one.

    :raises BankAccountNotFound: if there is none in the currency
    """
    rows = BankAccount.objects.filter(
        organization_id=organization_id, currency=currency, state=AccountState.OPEN
    )
    if bank_account_id is not None:
        rows = rows.filter(id=bank_account_id)
    found = rows.order_by("id").first()
    if found is None:
        raise errors.BankAccountNotFound("There is no open bank account in this currency.")
    return PayoutAccount(
        id=found.id,
        connection_id=found.connection_id,
        ledger_account_id=found.ledger_account_id,
        currency=found.currency,
        iban=get_identification(account=found),
        bic=found.bic or None,
        holder_name=found.holder_name,
        address=Address(
            **{**found.holder_address, "lines": tuple(found.holder_address.get("lines", ()))}
        ),
        zone=found.zone,
        cut_off=found.cut_off,
        is_batch_booked=found.is_batch_booked,
    )


# --- The calendar -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BankCalendar:
    """The open days of T2 as seeded; it answers for no other year."""

    days: OpenDays

    def is_open(self, day: date) -> bool:
        """
        Say whether banks settle on this day.

        :raises CalendarNotSeeded: if its year was never seeded
        """
        if day.year not in self.days.years:
            raise errors.CalendarNotSeeded(
                "The bank holidays of this year are not known.", year=day.year
            )
        return day.isoweekday() <= 5 and day not in self.days.holidays  # noqa: PLR2004  (Friday)

    def next_open(self, day: date) -> date:
        """
        Return the first open day from this one on, itself included.

        :raises CalendarNotSeeded: if a year on the way was never seeded
        """
        while not self.is_open(day):
            day += timedelta(days=1)
        return day


def get_open_days() -> BankCalendar:
    """Return the seeded calendar; about six rows a year."""
    return BankCalendar(OpenDays(frozenset(CalendarDay.objects.values_list("day", flat=True))))


# --- Files --------------------------------------------------------------------------------------


def pack(content: bytes) -> str:
    """Return the content as it is encrypted: compressed, since XML is mostly its own tags."""
    return base64.b64encode(zlib.compress(content, 6)).decode("ascii")


def get_bank_file(*, organization_id: UUID, bank_file_id: UUID) -> BankFile:
    """
    Return the file's row, without its bytes.

    :raises BankFileNotFound: if the organization has no such file
    """
    found = list_bank_files(organization_id=organization_id).filter(id=bank_file_id).first()
    if found is None:
        raise errors.BankFileNotFound("There is no such bank file.")
    return found


def list_bank_files(*, organization_id: UUID) -> QuerySet[BankFile]:
    """Return the organization's files, newest first, without their bytes."""
    return (
        BankFile.objects.filter(organization_id=organization_id)
        .defer("content_sealed")
        .order_by("-id")
    )


def get_bank_file_for_update(*, organization_id: UUID, bank_file_id: UUID) -> BankFile:
    """
    Return the file locked: of two workers that read it, one records what it says.

    :raises BankFileNotFound: if the organization has no such file
    """
    found = (
        BankFile.objects.select_for_update(no_key=True)
        .defer("content_sealed")
        .filter(organization_id=organization_id, id=bank_file_id)
        .first()
    )
    if found is None:
        raise errors.BankFileNotFound("There is no such bank file.")
    return found


def find_file_by_hash(*, organization_id: UUID, direction: str, sha256: bytes) -> BankFile | None:
    """Return the file with these bytes, if it came or went before."""
    return (
        list_bank_files(organization_id=organization_id)
        .filter(direction=direction, sha256=sha256)
        .first()
    )


def find_outgoing_file(*, organization_id: UUID, message_id: str) -> BankFile | None:
    """Return the file that was stored under this message id."""
    return (
        list_bank_files(organization_id=organization_id)
        .filter(direction="out", message_id=message_id)
        .first()
    )


def get_bank_file_content(*, organization_id: UUID, bank_file_id: UUID) -> bytes:
    """
    Return the file's bytes as they came or went.

    :raises BankFileNotFound: if the organization has no such file
    """
    found = BankFile.objects.filter(organization_id=organization_id, id=bank_file_id).first()
    if found is None:
        raise errors.BankFileNotFound("There is no such bank file.")
    packed = encryption.unseal(
        organization_id, CONTENT_COLUMN, found.id, bytes(found.content_sealed)
    )
    return zlib.decompress(base64.b64decode(packed))


# --- Statements and the chain -------------------------------------------------------------------


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
    *,
    organization_id: UUID,
    bank_account_id: UUID | None = None,
    bank_file_id: UUID | None = None,
) -> QuerySet[BankStatement]:
    """Return statements, newest first, of one account or one file where given."""
    rows = BankStatement.objects.filter(organization_id=organization_id)
    if bank_account_id is not None:
        rows = rows.filter(bank_account_id=bank_account_id)
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


_IDENTITIES: Final = """
    SELECT identity, occurrence, statement_id
      FROM banking_line
     WHERE organization_id = %s AND bank_account_id = %s AND source = %s AND identity = ANY(%s)
"""
_LINES_OF: Final = """
    SELECT statement_id, COUNT(*)
      FROM banking_line
     WHERE organization_id = %s AND statement_id = ANY(%s)
     GROUP BY statement_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLines:
    """Which of a statement's lines the account has already."""

    occurrences: frozenset[tuple[bytes, int]]
    counts: dict[bytes, int]
    by_statement: dict[UUID, int]


def find_known_lines(
    *, organization_id: UUID, bank_account_id: UUID, source: str, identities: Sequence[bytes]
) -> KnownLines:
    """Return the account's lines that share an identity with these."""
    with connection.cursor() as cursor:
        cursor.execute(
            _IDENTITIES,
            [organization_id, bank_account_id, source, list(set(identities))],
        )
        rows = [(bytes(identity), number, of) for identity, number, of in cursor.fetchall()]
    counts: dict[bytes, int] = {}
    by_statement: dict[UUID, int] = {}
    for identity, number, of in rows:
        counts[identity] = max(number, counts.get(identity, 0))
        by_statement[of] = by_statement.get(of, 0) + 1
    return KnownLines(
        occurrences=frozenset((identity, number) for identity, number, _ in rows),
        counts=counts,
        by_statement=by_statement,
    )


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


# --- Lines --------------------------------------------------------------------------------------


def get_line(*, organization_id: UUID, line_id: UUID) -> BankLine:
    """
    Return the bank line.

    :raises BankLineNotFound: if the organization has no such line
    """
    found = BankLine.objects.filter(organization_id=organization_id, id=line_id).first()
    if found is None:
        raise errors.BankLineNotFound("There is no such bank line.")
    return found


def list_lines(
    *,
    organization_id: UUID,
    bank_account_id: UUID | None = None,
    statement_id: UUID | None = None,
    state: str | None = None,
) -> QuerySet[BankLine]:
    """Return lines, newest first, narrowed where asked."""
    rows = BankLine.objects.filter(organization_id=organization_id)
    if bank_account_id is not None:
        rows = rows.filter(bank_account_id=bank_account_id)
    if statement_id is not None:
        rows = rows.filter(statement_id=statement_id)
    if state is not None:
        statuses = BankLineStatus.objects.filter(organization_id=organization_id, state=state)
        rows = rows.filter(id__in=statuses.values("line_id"))
    return rows.order_by("-id")


def list_lines_with_status(
    *,
    organization_id: UUID,
    bank_account_id: UUID | None = None,
    statement_id: UUID | None = None,
    state: str | None = None,
) -> QuerySet[BankLine]:
    """Return lines as `list_lines`, each with `status_state` and `status_reason`."""
    status = BankLineStatus.objects.filter(
        organization_id=OuterRef("organization_id"), line_id=OuterRef("id")
    )
    return list_lines(
        organization_id=organization_id,
        bank_account_id=bank_account_id,
        statement_id=statement_id,
        state=state,
    ).annotate(
        status_state=Subquery(status.values("state")[:1]),
        status_reason=Subquery(status.values("reason")[:1]),
    )


def get_line_with_status(*, organization_id: UUID, line_id: UUID) -> BankLine:
    """
    Return the bank line, with `status_state` and `status_reason`.

    :raises BankLineNotFound: if the organization has no such line
    """
    found = list_lines_with_status(organization_id=organization_id).filter(id=line_id).first()
    if found is None:
        raise errors.BankLineNotFound("There is no such bank line.")
    return found


def find_line_statuses(
    *, organization_id: UUID, line_ids: Collection[UUID]
) -> dict[UUID, BankLineStatus]:
    """Return what became of these lines, by line."""
    rows = BankLineStatus.objects.filter(organization_id=organization_id, line_id__in=line_ids)
    return {row.line_id: row for row in rows}


def list_new_lines(*, organization_id: UUID, bank_account_id: UUID, limit: int) -> list[BankLine]:
    """
    Return the account's next lines to match, by booking date and order of arrival.

    The caller holds the account's queue row, so nobody else works on them.
    """
    ids = list(
        BankLineStatus.objects.filter(
            organization_id=organization_id,
            bank_account_id=bank_account_id,
            state=LineState.NEW,
        )
        .order_by("booking_date", "line_id")
        .values_list("line_id", flat=True)[:limit]
    )
    return _lines_in_order(organization_id, ids)


def list_lines_in_suspense(
    *, organization_id: UUID, bank_account_id: UUID, reason: str, limit: int
) -> list[BankLine]:
    """Return lines that stand in suspense for this reason, in their order."""
    ids = list(
        BankLineStatus.objects.filter(
            organization_id=organization_id,
            bank_account_id=bank_account_id,
            state=LineState.IN_SUSPENSE,
            reason=reason,
        )
        .order_by("booking_date", "line_id")
        .values_list("line_id", flat=True)[:limit]
    )
    return _lines_in_order(organization_id, ids)


def _lines_in_order(organization_id: UUID, ids: Sequence[UUID]) -> list[BankLine]:
    rows = BankLine.objects.filter(organization_id=organization_id, id__in=ids)
    lines = {line.id: line for line in rows}
    return [lines[id_] for id_ in ids]


def list_details(
    *, organization_id: UUID, line_ids: Collection[UUID]
) -> dict[UUID, list[BankLineDetail]]:
    """Return the details of these lines, by line, in their order."""
    found: dict[UUID, list[BankLineDetail]] = {}
    rows = BankLineDetail.objects.filter(
        organization_id=organization_id, line_id__in=line_ids
    ).order_by("line_id", "position")
    for row in rows:
        found.setdefault(row.line_id, []).append(row)
    return found


def get_counterparty(*, row: BankLine | BankLineDetail) -> Counterparty:
    """Return the other side of a line or detail, in clear."""
    if row.counterparty_sealed is None:
        return Counterparty()
    column = LINE_COLUMN if isinstance(row, BankLine) else DETAIL_COLUMN
    clear = encryption.unseal(row.organization_id, column, row.id, bytes(row.counterparty_sealed))
    return Counterparty(**json.loads(clear))
