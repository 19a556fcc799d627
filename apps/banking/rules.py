"""Where a statement belongs among those we know, and which lines are one: over values alone."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final
from uuid import UUID

from apps.banking.formats.values import Statement
from apps.banking.states import Chain

TWIN_DAYS_MAX: Final = 1
_SATURDAY: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementFacts:
    """What tells statements of one account apart and puts them in order. Minor units."""

    statement_id: str
    sequence: str
    opening_date: date
    closing_date: date
    opening_minor: int
    closing_minor: int
    lines_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownStatement:
    """One of the account's statements, and what stands behind it."""

    id: UUID
    facts: StatementFacts
    chain: str
    is_followed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """
    Where a new statement goes.

    `known`: it is here already. `refusal`: why it cannot be taken. Else `chain`, the one before it,
    the one whose gap it closes, and, where it overlaps, the closing balance known before it.
    """

    chain: Chain = Chain.NONE
    previous: UUID | None = None
    closes_gap_of: UUID | None = None
    base_minor: int | None = None
    known: UUID | None = None
    refusal: str = ""


def place_statement(
    new: StatementFacts,
    known: Sequence[KnownStatement],
    *,
    repeated: Collection[UUID],
    contained: Collection[UUID],
) -> Placement:
    """
    Place a statement in the account's chain, by balances and dates.

    `repeated` are known statements that share a line with it, `contained` those whose every line
    it repeats. Ids and sequence numbers repeat every year and give no order.
    """
    key = _key(new)
    same = [each for each in known if _key(each.facts) == key]
    if same:
        equal = [each for each in same if each.facts.lines_digest == new.lines_digest]
        return Placement(known=equal[0].id) if equal else Placement(refusal="statement_changed")
    if not known:
        return Placement(chain=Chain.FIRST, base_minor=new.opening_minor)
    first = next((each for each in known if each.chain == Chain.FIRST), None)
    if first is not None and _is_before(new, first.facts):
        return Placement(refusal="before_first_statement")
    gap = _gap_closed(new, known)
    before = _previous(new, known, contained=contained)
    if before is not None:
        return Placement(
            chain=Chain.FOLLOWS,
            previous=before.id,
            closes_gap_of=gap,
            base_minor=new.opening_minor,
        )
    overlapped = [each for each in known if each.id in repeated and _dates_meet(each.facts, new)]
    if overlapped:
        last = max(overlapped, key=lambda each: (each.facts.closing_date, each.id))
        return Placement(
            chain=Chain.OVERLAPS, closes_gap_of=gap, base_minor=last.facts.closing_minor
        )
    return Placement(chain=Chain.GAP, closes_gap_of=gap, base_minor=new.opening_minor)


def _key(facts: StatementFacts) -> tuple[object, ...]:
    return (
        facts.statement_id,
        facts.sequence,
        facts.opening_date,
        facts.closing_date,
        facts.opening_minor,
        facts.closing_minor,
    )


def _is_before(new: StatementFacts, first: StatementFacts) -> bool:
    return new.closing_date <= first.opening_date and new.opening_date < first.opening_date


def _previous(
    new: StatementFacts, known: Sequence[KnownStatement], *, contained: Collection[UUID]
) -> KnownStatement | None:
    """Return the latest statement that ends where this one begins and that none follows yet."""
    fitting = [
        each
        for each in known
        if not each.is_followed
        and each.facts.closing_minor == new.opening_minor
        and each.facts.closing_date <= new.closing_date
        and each.facts.opening_date <= new.opening_date
        # One that moved nothing in sum also ends where it began: the fuller statement of the same
        # day, which holds all of its lines, does not follow it.
        and not (each.id in contained and each.facts.opening_minor == each.facts.closing_minor)
    ]
    return max(fitting, key=lambda each: (each.facts.closing_date, each.id), default=None)


def _gap_closed(new: StatementFacts, known: Sequence[KnownStatement]) -> UUID | None:
    fitting = [
        each
        for each in known
        if each.chain == Chain.GAP
        and each.facts.opening_minor == new.closing_minor
        and new.closing_date <= each.facts.closing_date
        and new.opening_date <= each.facts.opening_date
    ]
    found = min(fitting, key=lambda each: (each.facts.closing_date, each.id), default=None)
    return found.id if found is not None else None


def _dates_meet(one: StatementFacts, other: StatementFacts) -> bool:
    return one.opening_date <= other.closing_date and other.opening_date <= one.closing_date


def in_chain_order(statements: Iterable[Statement]) -> list[Statement]:
    """
    Return a file's statements so that each comes after the one it follows.

    By balances first, then by dates and place in the file, so the file's own order does not matter.
    """
    left = sorted(statements, key=lambda each: (*_dates(each), each.position))
    ordered: list[Statement] = []
    while left:
        chosen = next((each for each in left if not _follows_any(each, left)), left[0])
        left.remove(chosen)
        ordered.append(chosen)
    return ordered


def _dates(statement: Statement) -> tuple[date, date]:
    opening, closing = statement.opening, statement.closing
    first = min((line.booking_date for line in statement.lines), default=date.min)
    return (
        closing.date if closing else first,
        opening.date if opening else first,
    )


def _follows_any(statement: Statement, others: Iterable[Statement]) -> bool:
    opening = statement.opening
    return any(
        other is not statement
        and opening is not None
        and other.closing is not None
        and other.account == statement.account
        and other.currency == statement.currency
        and other.closing.amount_minor == opening.amount_minor
        and _dates(other) <= _dates(statement)
        for other in others
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TwinKey:
    """What a notification's entry and a statement's line share if they are one."""

    account_servicer_ref: str
    amount_minor: int
    currency: str


def pair_twins[T, U](
    new: Sequence[tuple[T, TwinKey, date]], known: Sequence[tuple[U, TwinKey, date]]
) -> list[tuple[T, U]]:
    """
    Pair lines that are one: equal keys and booking dates at most one open day apart, in order.

    A bank may use one reference for two lines; amounts tell them apart, and equals go in order.
    """
    waiting: dict[TwinKey, list[tuple[U, date]]] = {}
    for twin, key, day in known:
        waiting.setdefault(key, []).append((twin, day))
    pairs = []
    for line, key, day in new:
        for candidate in waiting.get(key, []):
            if _open_days_apart(candidate[1], day) <= TWIN_DAYS_MAX:
                waiting[key].remove(candidate)
                pairs.append((line, candidate[0]))
                break
    return pairs


def _open_days_apart(one: date, other: date) -> int:
    """Count weekdays from one day to the other; banks' own holidays only make it smaller."""
    first, last = sorted((one, other))
    days = (first + timedelta(days=n) for n in range(1, (last - first).days + 1))
    # Days far apart need no counting to the end.
    count = 0
    for day in days:
        count += day.weekday() < _SATURDAY
        if count > TWIN_DAYS_MAX:
            break
    return count


@dataclass(frozen=True, slots=True)
class OpenDays:
    """The days on which the bank works: no Saturday, Sunday or T2 holiday."""

    holidays: frozenset[date]

    @property
    def years(self) -> frozenset[int]:
        """The years whose holidays are known: T2 has some in every year."""
        return frozenset(day.year for day in self.holidays)
