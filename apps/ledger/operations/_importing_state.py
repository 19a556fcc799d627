"""What stands beside an imported journal's entries: money changed, holds, monitors, months."""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from itertools import batched, groupby, islice
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from apps.core import transactions
from apps.core.actors import Actor
from apps.core.errors import Refusal
from apps.core.ids import new_id, new_ids
from apps.ledger import errors, queries, rules
from apps.ledger.formats import journal
from apps.ledger.formats.journal import (
    EntryLine,
    FxLine,
    HoldLine,
    MonitorLine,
    PeriodBalanceLine,
    PeriodLine,
)
from apps.ledger.formats.journal_check import JournalCheck
from apps.ledger.models import FxTransfer, Period, PeriodBalance
from apps.ledger.operations._engine import post
from apps.ledger.operations._fx import restore_fx_transfers
from apps.ledger.operations._monitors import MonitorTerms, restore_monitors
from apps.ledger.operations._periods import restore_closing, restore_reopened
from apps.ledger.rules import HoldStatus, MonitorDirection, MonitorMeasure, PlaceHold
from apps.ledger.states import PeriodState

PORTION: Final = 5_000

# Opens the file anew and yields its lines: it is read more than once.
type Read = Callable[[], Iterator[bytes]]
type Progress = Callable[[str, int], None]
type _Beside = FxLine | HoldLine | MonitorLine | PeriodLine
type _Numbered = tuple[int, Any]
type _Write = Callable[[Import, Sequence[Any]], None]


@dataclass(slots=True)
class Import:
    """One run: into what, what the file comes to, and the entries that others name."""

    organization_id: UUID
    check: JournalCheck
    actor: Actor
    now: datetime
    accounts: dict[str, UUID]
    entry_ids: dict[int, UUID]
    # How many of the file's entries stood when it began, or were posted by itself since.
    posted: int

    def remember(self, position: int, entry_id: UUID) -> None:
        check = self.check
        if position in check.reversed or position in check.later or position in check.exchanged:
            self.entry_ids[position] = entry_id


@dataclass(frozen=True, slots=True)
class _Month:
    """A month of the file; and what was stored of it, where it is open again."""

    line: PeriodLine
    stored: Sequence[PeriodBalanceLine]


def not_empty(what: str) -> Refusal:
    """Return the refusal of an organisation that has `what` in its books."""
    return errors.OrganizationNotEmpty(
        f"A journal is imported into an empty organisation; this one has {what}."
    )


def under_way(what: str) -> Refusal:
    """Return the refusal of an import that met another one of the same file, which did `what`."""
    return errors.ImportUnderWay(
        f"Another import of this journal runs in this organisation, or ended just now: it {what}."
        " Let it end; run this one again then, and it goes on after what stands."
    )


def refuse_line(number: int, refusal: Refusal) -> Refusal:
    """Return the refusal of a file whose line the ledger's own operations refuse."""
    return errors.JournalFileRefused(
        f"Line {number}: {refusal.message}", line=number, refusal=refusal.code
    )


# --- Before anything is written -----------------------------------------------------------------


def check_months(run: Import, read: Read) -> None:
    """
    Check that the file's months are those of this organisation's time zone.

    :raises JournalFileRefused: if one begins or ends at another instant
    """
    for number, line in _lines(run, read, PeriodLine):
        bounds = queries.period_bounds(organization_id=run.organization_id, month=line.month)
        if bounds != (line.starts_at, line.ends_at):
            raise errors.JournalFileRefused(
                f"Line {number}: in this organisation's time zone {line.month:%Y-%m} is not from"
                f" {line.starts_at} to {line.ends_at}.",
                line=number,
            )


def count_standing(run: Import, read: Read) -> dict[type[_Beside], int]:
    """
    Return how many of the file's lines of each kind stand already, by an earlier run.

    :raises OrganizationNotEmpty: if anything stands that the file does not have in this place
    """
    counts: dict[type[_Beside], int] = {}
    for kind, (name, rows) in _standing(run).items():
        counts[kind], lines = 0, _lines(run, read, kind)
        # Here, and not when the refusal is forgotten: Postgres is told (docs/adr/0172).
        with closing(rows):
            for row in rows:
                _, line = next(lines, (0, None))
                if line is None or _terms(run, line) != row:
                    raise not_empty(f"other {name}")
                # Nothing of these is written before the last entry is.
                if run.check.standing != run.check.entries:
                    raise not_empty(name)
                counts[kind] += 1
    return counts


def _standing(run: Import) -> Mapping[type[_Beside], tuple[str, Generator[tuple[object, ...]]]]:
    """Return by kind what it is called, and its rows in the order of the file, as `_terms`."""
    mine = run.organization_id
    codes = dict(queries.accounts(organization_id=mine).values_list("id", "code"))
    every_fx, every_hold = queries.FxSearch(), queries.HoldSearch()
    fx_transfers = queries.fx_transfers(organization_id=mine, search=every_fx).order_by("id")
    holds = queries.holds(organization_id=mine, search=every_hold, now=run.now).order_by("id")
    monitors = queries.monitors(organization_id=mine).order_by("id")
    months = queries.periods(organization_id=mine)
    return {
        FxLine: ("FX transfers", (
            (row.sold_entry_id, row.bought_entry_id) for row in fx_transfers.iterator())),
        HoldLine: ("holds", (
            (codes[row.debit_account_id], codes[row.credit_account_id], row.amount_minor,
             row.currency, row.reference, row.expires_at, row.multi_capture,
             # Time may have ended one since it was placed, which nobody else did.
             "open" if row.status == HoldStatus.EXPIRED else row.status, row.captured_minor)
            for row in holds.iterator())),
        MonitorLine: ("balance monitors", (
            (codes[row.account_id], row.measure, row.direction, row.threshold_minor,
             row.description, row.is_active)
            for row in monitors.iterator())),
        PeriodLine: ("accounting periods", (
            (row.month, row.requested_by, row.approved_by, row.state != PeriodState.OPEN,
             # Its second step counts a closed one's closing, sooner or later.
             None if row.state != PeriodState.OPEN else row.closings,
             row.reopening_requested_by, row.reopening_approved_by, row.reopening_reason)
            for row in months)),
    }  # fmt: skip


def _terms(run: Import, line: _Beside) -> tuple[object, ...]:
    match line:
        case FxLine():
            return run.entry_ids.get(line.sold_entry), run.entry_ids.get(line.bought_entry)
        case HoldLine():
            return (
                line.debit_account, line.credit_account, line.amount, line.currency,
                line.reference, line.expires_at, line.multi_capture, "open", 0,
            )  # fmt: skip
        case MonitorLine():
            return (
                line.account, line.measure, line.direction, line.threshold, line.description, True,
            )  # fmt: skip
        case PeriodLine():
            is_closed = line.state == "closed"
            return (
                line.month, line.requested_by, line.approved_by, is_closed,
                None if is_closed else line.closings, line.reopening_requested_by,
                line.reopening_approved_by, line.reopening_reason,
            )  # fmt: skip


def _lines(
    run: Import, read: Read, kind: type[_Beside | EntryLine | PeriodBalanceLine]
) -> Iterator[_Numbered]:
    """Yield the file's lines of a kind with their numbers; read only where there are any."""
    if not run.check.lines[kind]:
        return
    for number, text in enumerate(read(), 1):
        line = journal.parse_line(text)
        if isinstance(line, kind):
            yield number, line


def count_by_others(run: Import, read: Read) -> int:
    """Return how many of the file's entries another import has posted since; 0 without one."""
    last = b""
    # The other one goes on meanwhile: counted and read apart, its entries were not the same ones.
    with transactions.long_snapshot():
        standing, _ = queries.count_entries_and_postings(organization_id=run.organization_id)
        # Of what most refusals are about there are none; of a long chain it takes long to see that.
        if not run.posted < standing <= run.check.lines[EntryLine]:
            return 0
        for _, _, hash_ in queries.stream_chain_by_id(organization_id=run.organization_id):
            last = hash_
    # The hash of a link is of all before it too: so nothing stands that is not the file's.
    for _, line in _lines(run, read, EntryLine):
        if line.position == standing and line.hash == last.hex():
            return standing - run.posted
    return 0


# --- Writing ------------------------------------------------------------------------------------


def restore(
    run: Import, read: Read, standing: Mapping[type[_Beside], int], on_progress: Progress
) -> None:
    """
    Write what of these lines does not stand yet, a portion to a transaction.

    None is open while the file is read: Postgres ends one that stands still, and others wait for
    what it has locked.

    :raises JournalFileRefused: if the ledger refuses one; names the line
    :raises ImportUnderWay: if another import writes them too
    """
    for kind, (what, write) in _WRITERS.items():
        count = standing[kind]
        lines = islice(_lines(run, read, kind), count, None)
        portions = _months(run, read, lines) if kind is PeriodLine else batched(lines, PORTION)
        for portion in portions:
            _restore_portion(run, kind, portion, count, partial(write, run))
            count += len(portion)
            on_progress(what, count)


def _months(
    run: Import, read: Read, lines: Iterator[_Numbered]
) -> Iterator[tuple[tuple[int, _Month]]]:
    """
    Yield each month as a portion of its own, with all that was stored of it.

    The file has both in the order of months, so it is read once for all of them.
    """
    balances = (line for _, line in _lines(run, read, PeriodBalanceLine))
    stored = groupby(balances, key=attrgetter("month"))
    month: date = date.min
    of_month: Iterator[PeriodBalanceLine] = iter(())
    for number, line in lines:
        while month < line.month:
            month, of_month = next(stored, (date.max, iter(())))
        yield ((number, _Month(line, list(of_month) if month == line.month else [])),)


@transactions.outermost
def _restore_portion(
    run: Import,
    kind: type[_Beside],
    portion: Sequence[_Numbered],
    standing: int,
    write: Callable[[Sequence[Any]], None],
) -> None:
    # Of two imports of one file each waits here for the other's portion, and then sees it.
    queries.lock_chain_head(organization_id=run.organization_id)
    name, rows = _standing(run)[kind]
    if sum(1 for _ in rows) != standing:
        raise under_way(f"wrote {name} meanwhile")
    try:
        write([line for _, line in portion])
    except Refusal as refusal:
        number, _ = portion[int(str(refusal.details.get("index", 0)))]
        raise refuse_line(number, refusal) from refusal


def _write_fx_transfers(run: Import, lines: Sequence[FxLine]) -> None:
    rows = [
        FxTransfer(
            id=id_,
            organization_id=run.organization_id,
            from_account_id=run.accounts[line.from_account],
            to_account_id=run.accounts[line.to_account],
            sold_minor=line.sold,
            sold_currency=line.sold_currency,
            bought_minor=line.bought,
            bought_currency=line.bought_currency,
            rate=Decimal(line.rate),
            remainder_minor=rules.quote(
                sold_minor=line.sold,
                sold_currency=line.sold_currency,
                bought_currency=line.bought_currency,
                rate=Decimal(line.rate),
            ).remainder_minor,
            source=line.source,
            quoted_at=line.quoted_at,
            sold_entry_id=run.entry_ids[line.sold_entry],
            bought_entry_id=run.entry_ids[line.bought_entry],
            reference=line.reference,
            description=line.description,
            metadata=journal.parse_metadata(line.metadata),
            effective_at=line.effective_at,
            created_at=line.created_at,
        )
        for id_, line in zip(new_ids(len(lines)), lines, strict=True)
    ]
    restore_fx_transfers(rows=rows, actor=run.actor, now=run.now)


def _write_holds(run: Import, lines: Sequence[HoldLine]) -> None:
    commands = [
        PlaceHold(
            id=id_,
            debit_account_id=run.accounts[line.debit_account],
            credit_account_id=run.accounts[line.credit_account],
            amount_minor=line.amount,
            currency=line.currency,
            reference=line.reference,
            expires_at=line.expires_at,
            multi_capture=line.multi_capture,
            metadata=journal.parse_metadata(line.metadata),
        )
        for id_, line in zip(new_ids(len(lines)), lines, strict=True)
    ]
    post(organization_id=run.organization_id, commands=commands, actor=run.actor, now=run.now)


def _write_monitors(run: Import, lines: Sequence[MonitorLine]) -> None:
    monitors = [
        MonitorTerms(
            account_id=run.accounts[line.account],
            measure=MonitorMeasure(line.measure),
            direction=MonitorDirection(line.direction),
            threshold_minor=line.threshold,
            description=line.description,
        )
        for line in lines
    ]
    restore_monitors(
        organization_id=run.organization_id, monitors=monitors, actor=run.actor, now=run.now
    )


def _write_periods(run: Import, months: Sequence[_Month]) -> None:
    for month in months:
        line = month.line
        is_closed = line.state == "closed"
        period = Period(
            id=new_id(),
            organization_id=run.organization_id,
            month=line.month,
            starts_at=line.starts_at,
            ends_at=line.ends_at,
            closings=line.closings - 1 if is_closed else line.closings,
            requested_by=line.requested_by,
            approved_by=line.approved_by,
            reopening_requested_by=line.reopening_requested_by,
            reopening_approved_by=line.reopening_approved_by,
            reopening_reason=line.reopening_reason,
        )
        if is_closed:
            restore_closing(period=period, actor=run.actor, now=run.now)
        else:
            # With its row, and no later: where that stands, what was stored stands too.
            stored = _stored(run, month.stored)
            restore_reopened(period=period, stored=stored, actor=run.actor, now=run.now)


def _stored(run: Import, lines: Sequence[PeriodBalanceLine]) -> Iterator[PeriodBalance]:
    for line in lines:
        yield PeriodBalance(
            organization_id=run.organization_id,
            month=line.month,
            closing=line.closing,
            account_id=run.accounts[line.account],
            opening_minor=line.opening,
            debits_minor=line.debits,
            credits_minor=line.credits,
        )


# In the order of the file.
_WRITERS: Final[Mapping[type[_Beside], tuple[str, _Write]]] = {
    FxLine: ("FX transfers kept", _write_fx_transfers),
    HoldLine: ("holds placed", _write_holds),
    MonitorLine: ("balances watched", _write_monitors),
    PeriodLine: ("months kept", _write_periods),
}
