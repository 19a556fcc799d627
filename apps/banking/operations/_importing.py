"""
Importing a file: bytes first, then reading and checks with no transaction, then one transaction.

A file is taken whole or refused whole. A refused one leaves its bytes and the reasons, no more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final
from uuid import UUID

from apps.banking import events, queries, registry
from apps.banking.formats.checks import CheckedFile, check_file
from apps.banking.formats.problems import Problem, UnreadableFile
from apps.banking.formats.reading import read_bank_file
from apps.banking.formats.values import CamtFile, Statement, StatusReport
from apps.banking.models import BankAccount, BankFile, BankFileWork, BankStatement
from apps.banking.operations._files import receive_bank_file
from apps.banking.operations._lines import wake_line_queues
from apps.banking.operations._statements import (
    FileRefused,
    Taken,
    store_untaken_statement,
    take_statement,
)
from apps.banking.rules import in_chain_order
from apps.banking.states import FileState, StatementState
from apps.core import audit, outbox, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.core.work import WorkState

PROBLEMS_KEPT_MAX: Final = 100
REASON_MAX: Final = 1000


def import_bank_file(
    *,
    organization_id: UUID,
    content: bytes,
    name: str,
    bank_account_id: UUID | None = None,
    connection_id: UUID | None = None,
    actor: Actor,
    now: datetime,
) -> BankFile:
    """
    Store a file and take what it says, at once; its `state` and `reason` are the answer.

    The same bytes again are the first import, and change nothing. With `bank_account_id`, a file
    with a statement of another account is refused. A status report goes to its readers.

    :raises BankAccountNotFound: if the organization has no such account
    """
    file = receive_bank_file(
        organization_id=organization_id,
        content=content,
        name=name,
        bank_account_id=bank_account_id,
        connection_id=connection_id,
        actor=actor,
        now=now,
    )
    if file.state != FileState.RECEIVED:
        return file
    return import_received_file(
        organization_id=organization_id, bank_file_id=file.id, actor=actor, now=now
    )


def import_received_file(
    *, organization_id: UUID, bank_file_id: UUID, actor: Actor, now: datetime
) -> BankFile:
    """
    Read a stored file and record what it says, or why it is refused; the second run finds it done.

    :raises BankFileNotFound: if the organization has no such file
    """
    file = queries.get_bank_file(organization_id=organization_id, bank_file_id=bank_file_id)
    content = queries.get_bank_file_content(
        organization_id=organization_id, bank_file_id=bank_file_id
    )
    record = Recording(
        organization_id=organization_id, bank_file_id=bank_file_id, actor=actor, now=now
    )
    try:
        read = read_bank_file(content, name=file.name)
        if isinstance(read, StatusReport):
            return _take_report(record, read)
        checked = check_file(read, name=file.name)
        if checked.problems:
            return _refuse(record, read, checked.problems)
        return _record_statements(record, read, checked)
    except UnreadableFile as fault:
        return _refuse(record, None, [fault.problem])
    except FileRefused as fault:
        named = [replace(problem, file=problem.file or file.name) for problem in fault.problems]
        return _refuse(record, None, named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Which file is being recorded, for whom, and when."""

    organization_id: UUID
    bank_file_id: UUID
    actor: Actor
    now: datetime


@dataclass(slots=True)
class _Sum:
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


def _take_report(record: Recording, report: StatusReport) -> BankFile:
    # Readers come first and may see a report twice: a crash between the two loses nothing.
    for read in registry.report_readers():
        read(
            organization_id=record.organization_id,
            bank_file_id=record.bank_file_id,
            report=report,
            actor=record.actor,
            now=record.now,
        )
    return _record_report(record, report)


@transactions.outermost
def _record_report(record: Recording, report: StatusReport) -> BankFile:
    file = queries.get_bank_file_for_update(
        organization_id=record.organization_id, bank_file_id=record.bank_file_id
    )
    if file.state == FileState.RECEIVED:
        file.kind, file.version = report.kind, report.version
        file.message_id = report.message_id[:64]
        _close_imported(record, file, _Sum())
    return file


@transactions.outermost
def _record_statements(record: Recording, read: CamtFile, checked: CheckedFile) -> BankFile:
    # The file's lock makes one of two readers the one that records; accounts come after it, so
    # that imports of one account extend its chain one after the other.
    file = queries.get_bank_file_for_update(
        organization_id=record.organization_id, bank_file_id=record.bank_file_id
    )
    open_rows = _open_rows(file)
    if file.state != FileState.RECEIVED and not open_rows:
        return file
    accounts = _Accounts(record, [*checked.statements, *checked.waiting])
    accounts.refuse_wrong(expected=file.bank_account_id)
    queries.lock_bank_accounts(organization_id=record.organization_id, ids=accounts.ids)
    brought, parked = _Sum(), 0
    for statement in in_chain_order(checked.statements):
        row = open_rows.get(statement.position)
        if file.state != FileState.RECEIVED and row is None:
            continue
        account = accounts.of(statement)
        if account is None:
            parked += 1
            if row is None:
                _store(record, file, statement, accounts, state=StatementState.UNKNOWN_ACCOUNT)
        else:
            brought.add(
                take_statement(
                    account=account,
                    index=accounts.index(statement),
                    file=file,
                    statement=statement,
                    row=row,
                    now=record.now,
                )
            )
    if file.state == FileState.RECEIVED:
        parked += _store_waiting(record, file, checked.waiting, accounts)
    _announce(record, brought)
    file.kind, file.version, file.message_id = read.kind, read.version, read.message_id[:64]
    file.warnings = _as_json([*checked.warnings, *_line_warnings(checked.statements)])
    if not brought.statements and parked:
        _close_parked(record, file, accounts, [*checked.statements, *checked.waiting])
    else:
        _close_imported(record, file, brought)
    return file


def _open_rows(file: BankFile) -> dict[int, BankStatement]:
    """Return the file's statements that wait for their account, by position."""
    rows = BankStatement.objects.filter(
        organization_id=file.organization_id,
        bank_file_id=file.id,
        state=StatementState.UNKNOWN_ACCOUNT,
    )
    return {row.position: row for row in rows}


class _Accounts:
    """Which account of ours each statement is of."""

    def __init__(self, record: Recording, statements: Sequence[Statement]) -> None:
        self._statements = statements
        self._indexes = {
            identification: queries.identification_index(
                organization_id=record.organization_id, identification=identification
            )
            for identification in {each.account.identification for each in statements}
        }
        self._found = queries.find_accounts_by_identification(
            organization_id=record.organization_id, indexes=self._indexes.values()
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


def _store(
    record: Recording,
    file: BankFile,
    statement: Statement,
    accounts: _Accounts,
    *,
    state: StatementState,
) -> None:
    store_untaken_statement(
        file=file,
        statement=statement,
        index=accounts.index(statement),
        account=accounts.of(statement),
        state=state,
        now=record.now,
    )


def _store_waiting(
    record: Recording, file: BankFile, pages: Iterable[Statement], accounts: _Accounts
) -> int:
    """Keep pages whose other pages have not come; return how many are of no account of ours."""
    parked = 0
    for page in pages:
        known = accounts.of(page) is not None
        parked += not known
        state = StatementState.WAITING if known else StatementState.UNKNOWN_ACCOUNT
        _store(record, file, page, accounts, state=state)
    return parked


def _announce(record: Recording, brought: _Sum) -> None:
    """Wake the matching of accounts with new lines, and tell whoever listens."""
    wake_line_queues(
        organization_id=record.organization_id,
        bank_account_ids=sorted(
            {each.bank_account_id for each in brought.taken if each.posts_lines}
        ),
    )
    placed = [each.placed for each in brought.taken if each.placed is not None]
    if placed:
        for listen in registry.statement_listeners():
            listen(
                organization_id=record.organization_id,
                statements=placed,
                actor=record.actor,
                now=record.now,
            )


def _line_warnings(statements: Iterable[Statement]) -> list[Problem]:
    return [
        Problem(
            code="line_warning",
            message=warning,
            statement=statement.name,
            entry=line.position,
            line=line.source_line,
        )
        for statement in statements
        for line in statement.lines
        for warning in line.warnings
    ]


def _close_imported(record: Recording, file: BankFile, brought: _Sum) -> None:
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


def _close_parked(
    record: Recording, file: BankFile, accounts: _Accounts, statements: Iterable[Statement]
) -> None:
    problems = [
        _problem(
            "unknown_account",
            f"The account …{statement.account.identification[-4:]} in {statement.currency} is none"
            " of ours; the file is kept and read again once it is added.",
            statement,
        )
        for statement in statements
        if accounts.of(statement) is None
    ]
    file.state = FileState.UNKNOWN_ACCOUNT
    _explain(file, [replace(problem, file=file.name) for problem in problems])
    _save(record, file)


@transactions.outermost
def _refuse(record: Recording, read: CamtFile | None, problems: Sequence[Problem]) -> BankFile:
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


def _explain(file: BankFile, problems: Sequence[Problem]) -> None:
    file.reason_code = problems[0].code
    file.reason = str(problems[0])[:REASON_MAX]
    file.problems = _as_json(problems)


def _as_json(problems: Sequence[Problem]) -> list[dict[str, object]]:
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
