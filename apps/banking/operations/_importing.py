"""
Importing a file: bytes first, then reading and checks with no transaction, then one transaction.

A file is taken whole or refused whole. A refused one leaves its bytes and the reasons, no more.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from apps.accounts import queries as owners
from apps.banking import queries, registry
from apps.banking.formats.checks import CheckedFile, check_file
from apps.banking.formats.problems import Problem, UnreadableFile
from apps.banking.formats.reading import read_bank_file
from apps.banking.formats.values import CamtFile, Statement, StatusReport
from apps.banking.models import BankAccount, BankFile, BankStatement
from apps.banking.operations._chains import Chains
from apps.banking.operations._files import receive_bank_file
from apps.banking.operations._lines import wake_line_queues
from apps.banking.operations._outcomes import (
    Brought,
    Recording,
    as_json,
    close_imported,
    close_parked,
    refuse,
)
from apps.banking.operations._statement_accounts import StatementAccounts
from apps.banking.operations._statements import FileRefused, store_untaken_statement, take_statement
from apps.banking.rules import in_chain_order
from apps.banking.states import FileState, StatementState
from apps.core import transactions
from apps.core.actors import Actor


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
            return refuse(record, read, checked.problems)
        return _record_statements(record, read, checked)
    except UnreadableFile as fault:
        return refuse(record, None, [fault.problem])
    except FileRefused as fault:
        named = [replace(problem, file=problem.file or file.name) for problem in fault.problems]
        return refuse(record, None, named)


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
        close_imported(record, file, Brought())
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
    accounts = _accounts_of(checked, organization_id=record.organization_id)
    accounts.refuse_wrong(expected=_expected(file))
    queries.lock_bank_accounts(organization_id=record.organization_id, ids=accounts.ids)
    brought, parked, chains = Brought(), 0, Chains()
    for statement in _undecided(file, in_chain_order(checked.statements), open_rows):
        row = open_rows.get(statement.position)
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
                    chains=chains,
                    now=record.now,
                )
            )
    pages = _undecided(file, checked.waiting, open_rows)
    parked += _store_waiting(record, file, pages, accounts, open_rows)
    _announce(record, brought)
    file.kind, file.version, file.message_id = read.kind, read.version, read.message_id[:64]
    unknown = accounts.unknown()
    warnings = [*checked.warnings, *_line_warnings(checked.statements)]
    # One of which something was taken stays so, whatever of it still waits for an account.
    if parked and not brought.statements and file.state != FileState.IMPORTED:
        file.warnings = as_json(warnings)
        close_parked(record, file, unknown)
    else:
        # What is kept for an account that may be added is said first: it waits for a person.
        file.warnings = as_json([*unknown, *warnings])
        close_imported(record, file, brought)
    return file


def _accounts_of(checked: CheckedFile, *, organization_id: UUID) -> StatementAccounts:
    """Find whose the statements are; one that is being added at this moment is waited for."""
    statements = [*checked.statements, *checked.waiting]
    accounts = StatementAccounts(organization_id, statements)
    if not accounts.unknown():
        return accounts
    # As `add_bank_account` does: an account that it added is seen by the statement after the lock.
    owners.lock_organization(organization_id=organization_id)
    return StatementAccounts(organization_id, statements)


def _expected(file: BankFile) -> BankAccount | None:
    if file.bank_account_id is None:
        return None
    return queries.get_bank_account(
        organization_id=file.organization_id, bank_account_id=file.bank_account_id
    )


def _open_rows(file: BankFile) -> dict[int, BankStatement]:
    """Return the file's statements that wait for their account, by position."""
    rows = BankStatement.objects.filter(
        organization_id=file.organization_id,
        bank_file_id=file.id,
        state=StatementState.UNKNOWN_ACCOUNT,
    )
    return {row.position: row for row in rows}


def _undecided(
    file: BankFile, statements: Iterable[Statement], open_rows: Mapping[int, BankStatement]
) -> list[Statement]:
    """Return what is to be decided of a file: all of it, or what waits for an account."""
    is_new = file.state == FileState.RECEIVED
    return [each for each in statements if is_new or each.position in open_rows]


def _store(
    record: Recording,
    file: BankFile,
    statement: Statement,
    accounts: StatementAccounts,
    *,
    state: StatementState,
    row: BankStatement | None = None,
) -> None:
    store_untaken_statement(
        file=file,
        statement=statement,
        index=accounts.index(statement),
        account=accounts.of(statement),
        state=state,
        row=row,
        now=record.now,
    )


def _store_waiting(
    record: Recording,
    file: BankFile,
    pages: Iterable[Statement],
    accounts: StatementAccounts,
    open_rows: Mapping[int, BankStatement],
) -> int:
    """Keep pages whose other pages have not come; return how many are of no account of ours."""
    parked = 0
    for page in pages:
        row = open_rows.get(page.position)
        known = accounts.of(page) is not None
        parked += not known
        state = StatementState.WAITING if known else StatementState.UNKNOWN_ACCOUNT
        if known or row is None:
            _store(record, file, page, accounts, state=state, row=row)
    return parked


def _announce(record: Recording, brought: Brought) -> None:
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
