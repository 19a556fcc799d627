"""
What leaves the house as a file: noted before the first byte, and again after the last.

Both notes are rows of the audit trail, under the id of the export. One without the second broke
off, and so did its file, which then lacks the line that counts its rows.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.core import audit, transactions
from apps.core.actors import Actor

EXPORT: Final = "core.export"


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


def write_file(export: FileExport, lines: Iterable[str]) -> Iterator[bytes]:
    """Yield the lines, all of them read as of one instant, and note at the end what they were."""
    digest, count = hashlib.sha256(), 0
    with transactions.snapshot():
        for line in lines:
            written = line.encode()
            digest.update(written)
            count += 1
            yield written
    _end(export, lines=count, sha256=digest.hexdigest())


@transactions.outermost
def _end(export: FileExport, *, lines: int, sha256: str) -> None:
    _note(export, after={"export": str(export.id), "lines": lines, "sha256": sha256})


def _note(export: FileExport, *, after: dict[str, object], reason: str = "") -> None:
    audit.record(
        EXPORT,
        export.subject,
        organization_id=export.organization_id,
        actor=export.actor,
        reason=reason,
        after=after,
    )
