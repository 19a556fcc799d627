"""
What leaves the house as a file: noted before the first byte, and again after the last.

Both notes are rows of the audit trail, under the id of the export. A file is read as a whole before
it is sent, so that none breaks off because of us: what is too much for a request is refused, and
that is its second note (ADR 0168). One without a second note broke off on its way, and so did its
file, which then lacks the line that counts its rows.
"""

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Final
from uuid import UUID

from django.db import DatabaseError

from apps.core import audit, transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.ledger import queries
from apps.ledger.errors import ExportTooLarge, ExportTooSlow

EXPORT: Final = "core.export"
ROWS_MAX: Final = 50_000

_IN_MEMORY_BYTES_MAX: Final = 1 << 20
_PART_BYTES: Final = 1 << 16
# By the timeout of a statement, or of a transaction.
_ENDED_AS_TOO_LONG: Final = frozenset({"57014", "25P04"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileExport:
    """An export that was noted, and may be written. `subject` is what it is of: label and id."""

    id: UUID
    organization_id: UUID
    subject: tuple[str, str]
    actor: Actor
    started_at: datetime


def note_begun(
    export: FileExport, *, reason: str, asked: dict[str, object], is_again: bool
) -> None:
    """
    Note that somebody takes it out, why, and what was asked for; also if it is taken out again.

    A form that was sent twice is one export, but each file holds what the books are by then.
    """
    again = {"again": True} if is_again else {}
    _note(export, after={"export": str(export.id)} | asked | again, reason=reason)


def bounded[R](rows: Iterable[R], *, instead: str) -> Iterator[R]:
    """
    Yield the rows, as many as one file may have.

    :raises ExportTooLarge: at the first that is too many; `instead` says what else to do
    """
    for count, row in enumerate(rows, 1):
        if count > ROWS_MAX:
            raise ExportTooLarge(
                f"There are more than {ROWS_MAX:,} rows, which is the most of one file. {instead}",
                rows_max=ROWS_MAX,
            )
        yield row


def write_file(
    export: FileExport, lines: Callable[[datetime], Iterable[str]], *, instead: str
) -> Iterator[bytes]:
    """
    Read the lines whole, and return them to be sent; note at the end what they were.

    All of them are as of one instant, which `lines` is called with. `instead` is what else to do
    where there are too many.

    :raises ExportTooLarge: if there are too many rows; it is noted, and nothing was sent
    :raises ExportTooSlow: if Postgres needs longer for them than a request may
    """
    # Closed when it was sent, or with the answer that holds it.
    file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES_MAX)  # noqa: SIM115
    try:
        count, sha256 = _read(lines, file)
    except DatabaseError as fault:
        file.close()
        if transactions.sqlstate(fault) not in _ENDED_AS_TOO_LONG:
            raise
        _end(export, refused=ExportTooSlow.code)
        raise ExportTooSlow(f"This takes longer than one request may. {instead}") from fault
    except Refusal as refusal:
        file.close()
        _end(export, refused=refusal.code)
        raise
    return _sent(export, file, lines=count, sha256=sha256)


def _read(lines: Callable[[datetime], Iterable[str]], file: IO[bytes]) -> tuple[int, str]:
    """Write the lines to a file; return how many they are, and its SHA-256."""
    digest, count = hashlib.sha256(), 0
    with transactions.snapshot():
        for line in lines(queries.snapshot_time()):
            written = line.encode()
            digest.update(written)
            count += 1
            file.write(written)
    return count, digest.hexdigest()


def _sent(export: FileExport, file: IO[bytes], **held: object) -> Iterator[bytes]:
    with file:
        file.seek(0)
        while part := file.read(_PART_BYTES):
            yield part
    _end(export, **held)


@transactions.outermost
def _end(export: FileExport, **after: object) -> None:
    _note(export, after={"export": str(export.id)} | after)


def _note(export: FileExport, *, after: dict[str, object], reason: str = "") -> None:
    audit.record(
        EXPORT,
        export.subject,
        organization_id=export.organization_id,
        actor=export.actor,
        reason=reason,
        after=after,
    )
