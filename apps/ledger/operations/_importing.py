"""Importing a journal into an empty organisation: the same balances, and the same chain."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import batched
from typing import Final
from uuid import UUID

from apps.core import clock, transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import new_ids
from apps.ledger import errors, queries
from apps.ledger.formats import journal
from apps.ledger.formats.journal import AccountLine, EntryLine, MetadataLine
from apps.ledger.formats.journal_check import JournalCheck
from apps.ledger.models import Balance, EntryMetadata, LedgerAccount
from apps.ledger.operations import _importing_state
from apps.ledger.operations._accounts import AccountSpec, open_accounts
from apps.ledger.operations._engine import post
from apps.ledger.operations._importing_state import (
    PORTION,
    Import,
    Progress,
    Read,
    not_empty,
    refuse_line,
)
from apps.ledger.rules import AccountStatus, BalanceState, Leg, Outcome, PostEntry

_PROGRESS: Final = 50_000

# Status, floor, metadata and reach of an account; and what they are until all is imported: nothing
# holds it back then, so nobody but Kassa's own acts may reach it.
type _Terms = tuple[str, int | None, Mapping[str, object], bool]
_OPENED: Final[_Terms] = (AccountStatus.OPEN, None, {}, True)


def import_journal(
    *, organization_id: UUID, read: Read, actor: Actor, now: datetime, on_progress: Progress
) -> JournalCheck:
    """
    Post an exported journal into an empty organisation by the engine; return what the file held.

    The file is checked whole before anything is written. Entries keep their times and actors, and
    accounts get their floors, statuses and metadata at the end, since what holds now need not have
    held at each entry; all at once, and only while nobody has changed any, or posted to it. Until
    then no client reaches them, as no client reaches Kassa's own. Each portion is a
    transaction of its own: stopped anywhere, another run goes on after what stands. The events are
    published as if everything were new. Of what stands beside the entries an open hold is placed
    anew for what it still reserved, and a closed month is frozen: `finish_closing` closes it once
    its entries are sealed. One that was opened again is open, and the month in turn.

    :raises JournalFileRefused: if a line is wrong, or the engine refuses its entry; names the line
    :raises OrganizationNotEmpty: if the organisation has anything that the file does not begin with
    :raises ImportUnderWay: if another import of this file has posted of it since this one began
    """
    standing, _ = queries.count_entries_and_postings(organization_id=organization_id)
    check = JournalCheck(clock.database_now(), standing=standing)
    for number, text in enumerate(read(), 1):
        _read_line(check, number, text)
        if number % _PROGRESS == 0:
            on_progress("lines checked", number)
    _refuse_wrong(0, check.close)
    run = Import(organization_id, check, actor, now, {}, {}, posted=standing)
    try:
        _import(run, read, on_progress)
    except (errors.OrganizationNotEmpty, errors.JournalFileRefused) as refusal:
        # What the other one has posted is met in many ways: as a reference used twice, a balance.
        if met := _importing_state.count_by_others(run, read):
            raise _importing_state.under_way(f"posted {met:,} entries meanwhile") from refusal
        raise
    return check


def _import(run: Import, read: Read, on_progress: Progress) -> None:
    check = run.check
    _check_standing(run)
    _importing_state.check_months(run, read)
    beside = _importing_state.count_standing(run, read)
    for portion in batched(check.accounts, PORTION):
        run.accounts |= _open(run, portion)
    waiting = _entries(read, after=check.standing)
    for entries in batched(waiting, PORTION):
        ids = _post_portion(run, entries)
        for (_, entry), entry_id in zip(entries, ids, strict=True):
            run.remember(entry.position, entry_id)
        run.posted = entries[-1][1].position
        on_progress("entries posted", run.posted)
    for later in batched(_later_metadata(read) if check.later else (), PORTION):
        _keep_metadata(run, later)
    _importing_state.restore(run, read, beside, on_progress)
    _finish(run)


# --- Before anything is written -----------------------------------------------------------------


def _read_line(check: JournalCheck, number: int, text: bytes) -> None:
    _refuse_wrong(number, lambda: check.read(journal.parse_line(text)))


def _refuse_wrong(number: int, step: Callable[[], None]) -> None:
    try:
        step()
    # msgspec's and json's errors are ValueErrors too, and say what is wrong in the same way.
    except ValueError as wrong:
        where = f"Line {number}" if number else "The file"
        raise errors.JournalFileRefused(f"{where}: {wrong}.", line=number) from wrong


def _check_standing(run: Import) -> None:
    """Refuse an organisation with anything in its books that is not the beginning of the file."""
    lines = {line.code: line for line in run.check.accounts}
    known = list(queries.accounts(organization_id=run.organization_id))
    balances = queries.read_balances(
        organization_id=run.organization_id, account_ids=[account.id for account in known]
    )
    for account in known:
        _check_account(lines.get(account.code), account, balances[account.id])
    if run.check.standing > run.check.entries:
        raise not_empty(f"{run.check.standing} entries")
    last = b""
    # Another import may post meanwhile, and reverse what was not there when reversals were read.
    with transactions.long_snapshot():
        for position, entry_id, hash_ in queries.stream_chain_by_id(
            organization_id=run.organization_id
        ):
            run.remember(position, entry_id)
            last = hash_
    if last != run.check.hash_at:
        raise not_empty("other entries than the file's first")


def _check_account(line: AccountLine | None, account: LedgerAccount, balance: BalanceState) -> None:
    """Refuse an account that is neither as an import opens it nor as it leaves it."""
    made = (account.type, account.currency)
    if line is None or made != (line.account_type, line.currency):
        raise not_empty(f"ledger account {account.code}")
    # An import opens an account, which is its first event; only who changes it makes a second one.
    if account.event_sequence > 1 or _terms(account, balance) not in (_OPENED, _filed(line)):
        raise not_empty(f"ledger account {account.code} as somebody else opened or changed it")


def _terms(account: LedgerAccount, balance: BalanceState) -> _Terms:
    return balance.status, balance.min_available_minor, account.metadata, balance.internal


def _filed(line: AccountLine) -> _Terms:
    metadata = journal.parse_metadata(line.metadata)
    return line.status, line.min_available, metadata, line.internal


# --- Writing ------------------------------------------------------------------------------------


@transactions.outermost
def _open(run: Import, lines: Sequence[AccountLine]) -> dict[str, UUID]:
    # Without floors: one that was set later need not have held before.
    specs = [
        AccountSpec(line.code, line.account_type, line.currency, None, internal=True)
        for line in lines
    ]
    return open_accounts(organization_id=run.organization_id, accounts=specs, now=run.now)


def _entries(read: Read, *, after: int) -> Iterator[tuple[int, EntryLine]]:
    for number, text in enumerate(read(), 1):
        line = journal.parse_line(text)
        if isinstance(line, EntryLine) and line.position > after:
            yield number, line


def _later_metadata(read: Read) -> Iterator[MetadataLine]:
    lines = (journal.parse_line(text) for text in read())
    return (line for line in lines if isinstance(line, MetadataLine))


def _post_portion(run: Import, entries: Sequence[tuple[int, EntryLine]]) -> list[UUID]:
    ids = new_ids(len(entries))
    places = {entry.position: id_ for (_, entry), id_ in zip(entries, ids, strict=True)}
    try:
        _post(run, [entry for _, entry in entries], places)
    except errors.OrganizationNotEmpty:
        raise
    except Refusal as refusal:
        number, _ = entries[int(str(refusal.details.get("index", 0)))]
        raise refuse_line(number, refusal) from refusal
    return ids


@transactions.outermost
def _post(run: Import, entries: Sequence[EntryLine], ids: Mapping[int, UUID]) -> None:
    known = {**run.entry_ids, **ids}
    outcomes = post(
        organization_id=run.organization_id,
        commands=[_command(entry, run.accounts, known) for entry in entries],
        actor=run.actor,
        now=run.now,
    )
    for entry, outcome in zip(entries, outcomes, strict=True):
        # Somebody else posts here too, or imports the same file: nothing of this portion stays.
        if not _is_as_filed(entry, outcome):
            raise not_empty(f"other postings beside the file's entry {entry.position}")


def _command(entry: EntryLine, accounts: Mapping[str, UUID], ids: Mapping[int, UUID]) -> PostEntry:
    return PostEntry(
        id=ids[entry.position],
        legs=tuple([Leg(accounts[p.account], p.amount, p.currency) for p in entry.postings]),
        currency=entry.postings[0].currency,
        kind=entry.kind,
        reference=entry.reference,
        description=entry.description,
        effective_at=entry.effective_at,
        recorded_at=entry.recorded_at,
        actor=entry.actor,
        metadata=journal.parse_metadata(entry.metadata),
        reverses=None if entry.reverses is None else ids[entry.reverses],
    )


def _is_as_filed(entry: EntryLine, outcome: Outcome) -> bool:
    posted = [(line.account_version, line.balance_after_minor) for line in outcome.lines]
    return posted == [(p.version, p.balance_after) for p in entry.postings]


@transactions.outermost
def _keep_metadata(run: Import, lines: Sequence[MetadataLine]) -> None:
    EntryMetadata.objects.bulk_create(
        [
            EntryMetadata(
                organization_id=run.organization_id,
                entry_id=run.entry_ids[line.position],
                number=line.number,
                metadata=journal.parse_metadata(line.metadata),
                actor=line.actor,
                recorded_at=line.recorded_at,
            )
            for line in lines
        ],
        # An earlier run may have come so far.
        ignore_conflicts=True,
    )
    # Or a client, who finds the entries meanwhile, has said something of one in its place.
    rows = EntryMetadata.objects.filter(
        organization_id=run.organization_id,
        entry_id__in={run.entry_ids[line.position] for line in lines},
    ).values_list("entry_id", "number", "actor", "recorded_at")
    stands = {(entry_id, number): (actor, at) for entry_id, number, actor, at in rows}
    for line in lines:
        told = stands[run.entry_ids[line.position], line.number]
        if told != (line.actor, line.recorded_at):
            raise not_empty(f"other metadata of the file's entry {line.position}")


@transactions.outermost
def _finish(run: Import) -> None:
    """
    Give all accounts the floors, statuses, metadata and reach they have in the file, or none.

    :raises OrganizationNotEmpty: if somebody changed one meanwhile, or posted to it
    """
    mine = {"organization_id": run.organization_id}
    lines = {run.accounts[line.code]: line for line in run.check.accounts}
    # The same lock a posting or a change takes: what comes after either sees this.
    balances = queries.lock_balances(**mine, account_ids=lines)
    rows = LedgerAccount.objects.filter(**mine, id__in=list(lines))
    for account in rows:
        line, balance = lines[account.id], balances[account.id]
        _check_account(line, account, balance)
        if balance.version != run.check.version(line.code):
            raise not_empty(f"other postings on ledger account {line.code}")
    terms = {
        row.id: filed
        for row in rows
        if _terms(row, balances[row.id]) != (filed := _filed(lines[row.id]))
    }
    Balance.objects.filter(**mine).bulk_update(
        [
            Balance(id=id_, **mine, status=status, min_available_minor=floor, internal=internal)
            for id_, (status, floor, _, internal) in terms.items()
        ],
        ["status", "min_available_minor", "internal"],
        batch_size=1_000,
    )
    LedgerAccount.objects.filter(**mine).bulk_update(
        [
            LedgerAccount(id=id_, **mine, metadata=metadata)
            for id_, (_, _, metadata, _) in terms.items()
        ],
        ["metadata"],
        batch_size=1_000,
    )
