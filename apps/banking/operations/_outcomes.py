"""What becomes of a file that was read: taken, kept for later, or refused, and the reasons."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.banking import events, queries
from apps.banking.formats.problems import Problem
from apps.banking.formats.values import CamtFile
from apps.banking.models import BankFile, BankFileWork
from apps.banking.operations._statements import Taken
from apps.banking.states import FileState
from apps.core import audit, outbox, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.core.work import WorkState

PROBLEMS_KEPT_MAX: Final = 100
REASON_MAX: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Which file is being recorded, for whom, and when."""

    organization_id: UUID
    bank_file_id: UUID
    actor: Actor
    now: datetime


@dataclass(slots=True)
class Brought:
    """What a file brought, as its event says."""

    statements: int = 0
    lines: int = 0
    new_lines: int = 0
    taken: list[Taken] = field(default_factory=list)

    def add(self, taken: Taken) -> None:
        self.statements += 1
        self.lines += taken.line_count
        self.new_lines += taken.new_line_count
        self.taken.append(taken)


def close_imported(record: Recording, file: BankFile, brought: Brought) -> None:
    """Close a locked file that was taken, and tell what it brought."""
    was_closed = file.state == FileState.IMPORTED
    file.state, file.reason_code, file.reason, file.problems = FileState.IMPORTED, "", "", []
    _save(record, file)
    if was_closed:
        return  # Its other statements went on before: it is announced once.
    outbox.publish(
        events.BankFileImported(
            organization_id=file.organization_id,
            aggregate_id=encode_id("bf", file.id),
            occurred_at=record.now,
            id=encode_id("bf", file.id),
            kind=file.kind,
            statements=brought.statements,
            lines=brought.lines,
            new_lines=brought.new_lines,
        ),
        actor=record.actor,
        now=record.now,
    )


def close_parked(record: Recording, file: BankFile, problems: Sequence[Problem]) -> None:
    """Keep a locked file none of whose statements is of an account of ours."""
    file.state = FileState.UNKNOWN_ACCOUNT
    _explain(file, [replace(problem, file=file.name) for problem in problems])
    _save(record, file)


@transactions.outermost
def refuse(record: Recording, read: CamtFile | None, problems: Sequence[Problem]) -> BankFile:
    """Refuse a file for these reasons, unless somebody took it meanwhile."""
    file = queries.get_bank_file_for_update(
        organization_id=record.organization_id, bank_file_id=record.bank_file_id
    )
    if file.state not in {FileState.RECEIVED, FileState.UNKNOWN_ACCOUNT}:
        return file
    file.state = FileState.REFUSED
    if read is not None:
        file.kind, file.version, file.message_id = read.kind, read.version, read.message_id[:64]
    _explain(file, problems)
    _save(record, file)
    outbox.publish(
        events.BankFileRefused(
            organization_id=file.organization_id,
            aggregate_id=encode_id("bf", file.id),
            occurred_at=record.now,
            id=encode_id("bf", file.id),
            reason=file.reason_code,
        ),
        actor=record.actor,
        now=record.now,
    )
    return file


def as_json(problems: Sequence[Problem]) -> list[dict[str, object]]:
    """Return problems as a file's row keeps them: the first hundred."""
    return [
        {
            "code": problem.code,
            "detail": problem.message[:REASON_MAX],
            "statement": problem.statement,
            "entry": problem.entry,
            "line": problem.line,
            **dict(problem.details),
        }
        for problem in problems[:PROBLEMS_KEPT_MAX]
    ]


def _explain(file: BankFile, problems: Sequence[Problem]) -> None:
    file.reason_code = problems[0].code
    file.reason = str(problems[0])[:REASON_MAX]
    file.problems = as_json(problems)


def _save(record: Recording, file: BankFile) -> None:
    file.done_at = record.now
    file.save(
        update_fields=[
            "kind",
            "version",
            "message_id",
            "state",
            "reason_code",
            "reason",
            "problems",
            "warnings",
            "done_at",
        ]
    )
    BankFileWork.objects.filter(organization_id=file.organization_id, bank_file_id=file.id).update(
        state=WorkState.DONE, lease_until=None, lease_token=None, lapses=0, last_error_code=""
    )
    audit.record(
        "banking.import_bank_file",
        file,
        actor=record.actor,
        after={"state": file.state, "reason": file.reason_code},
    )
