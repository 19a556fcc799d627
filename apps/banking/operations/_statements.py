"""Taking one statement: its place in the chain, and its lines that are not known yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from uuid import UUID

from apps.banking import queries
from apps.banking.formats.identity import line_identity, occurrences
from apps.banking.formats.problems import Problem
from apps.banking.formats.values import Kind, Statement
from apps.banking.models import BankAccount, BankFile, BankLine, BankStatement
from apps.banking.operations._chains import Chains
from apps.banking.operations._rows import LineBuilder
from apps.banking.queries import KnownLines
from apps.banking.registry import StatementTaken
from apps.banking.rules import Placement, StatementFacts, TwinKey, pair_twins, place_statement
from apps.banking.states import Chain, Source, StatementState
from apps.core.copying import copy_rows
from apps.core.ids import new_id, new_ids
from apps.core.money import format_minor

_REFUSALS = {
    "statement_changed": "The same statement came before with other lines.",
    "before_first_statement": "The statement is older than the account's first one.",
}


class FileRefused(Exception):
    """The file cannot be taken; raised to undo what was written of it, and recorded after."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("; ".join(str(problem) for problem in problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a statement brought."""

    bank_account_id: UUID
    line_count: int
    new_line_count: int
    posts_lines: bool
    placed: StatementTaken | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    """A statement's lines with their identities and occurrences, and which are new."""

    identities: Sequence[bytes]
    numbers: Sequence[int]
    new: Sequence[int]


def take_statement(
    *,
    account: BankAccount,
    index: bytes,
    file: BankFile,
    statement: Statement,
    row: BankStatement | None,
    chains: Chains,
    now: datetime,
) -> Taken:
    """
    Write the statement and those of its lines that are not known; the account is locked.

    :raises FileRefused: if it does not fit what is known of the account
    """
    source = _source(statement)
    identities = [line_identity(statement.account.identification, line) for line in statement.lines]
    known = queries.find_known_lines(
        organization_id=account.organization_id,
        bank_account_id=account.id,
        source=source,
        identities=identities,
    )
    facts = _facts(statement, identities)
    placement = _place(account, statement, facts, known, chains)
    lines = _new_lines(placement, identities, known, source)
    if placement.chain == Chain.OVERLAPS:
        _refuse_wrong_overlap(statement, placement, lines)
    if placement.known is not None or (placement.chain == Chain.OVERLAPS and not lines.new):
        store_untaken_statement(
            file=file,
            statement=statement,
            index=index,
            account=account,
            state=StatementState.KNOWN,
            row=row,
            now=now,
        )
        return Taken(
            bank_account_id=account.id,
            line_count=len(statement.lines),
            new_line_count=0,
            posts_lines=False,
        )
    stored = _store(file, statement, index, account, row, now)
    stored.chain, stored.previous_id = placement.chain, placement.previous
    stored.base_minor, stored.new_line_count = placement.base_minor, len(lines.new)
    stored.save(force_insert=row is None)
    _close_gap(stored, placement)
    if facts is not None:
        chains.add(account, id_=stored.id, facts=facts, placement=placement)
    posts = _write_lines(account, stored, statement, lines, source)
    return Taken(
        bank_account_id=account.id,
        line_count=len(statement.lines),
        new_line_count=len(lines.new),
        posts_lines=posts,
        placed=_placed(account, stored, placement),
    )


def _source(statement: Statement) -> Source:
    return Source.STATEMENT if statement.kind == Kind.STATEMENT else Source.NOTIFICATION


def _digest(statement: Statement) -> bytes:
    return sha256(
        b"".join(line_identity(statement.account.identification, line) for line in statement.lines)
    ).digest()


def _facts(statement: Statement, identities: Sequence[bytes]) -> StatementFacts | None:
    """Return what places a statement in a chain; None for what has no place in one."""
    opening, closing = statement.opening, statement.closing
    if statement.kind != Kind.STATEMENT or opening is None or closing is None:
        return None
    return StatementFacts(
        statement_id=statement.statement_id[:64],
        sequence=(statement.sequence or "")[:32],
        opening_date=opening.date,
        closing_date=closing.date,
        opening_minor=opening.amount_minor,
        closing_minor=closing.amount_minor,
        lines_digest=sha256(b"".join(identities)).digest(),
    )


def _place(
    account: BankAccount,
    statement: Statement,
    facts: StatementFacts | None,
    known: KnownLines,
    chains: Chains,
) -> Placement:
    if facts is None:
        return Placement()
    counts = queries.count_lines(
        organization_id=account.organization_id, statement_ids=list(known.by_statement)
    )
    placement = place_statement(
        facts,
        chains.of(account),
        repeated=set(known.by_statement),
        contained={id_ for id_, found in known.by_statement.items() if found == counts[id_]},
    )
    if placement.refusal:
        raise FileRefused(
            [
                Problem(
                    code=placement.refusal,
                    message=_REFUSALS[placement.refusal],
                    statement=statement.name,
                    line=statement.source_line,
                )
            ]
        )
    return placement


def _new_lines(
    placement: Placement, identities: Sequence[bytes], known: KnownLines, source: Source
) -> _Lines:
    """Number the lines: all are new in one that continues; elsewhere occurrence n may be known."""
    may_repeat = placement.chain == Chain.OVERLAPS or source == Source.NOTIFICATION
    numbers = occurrences(identities, already=None if may_repeat else known.counts)
    pairs = enumerate(zip(identities, numbers, strict=True))
    # Lines never go, and are numbered without a gap.
    new = [at for at, (identity, number) in pairs if number > known.counts.get(identity, 0)]
    return _Lines(identities=identities, numbers=numbers, new=new)


def _refuse_wrong_overlap(statement: Statement, placement: Placement, lines: _Lines) -> None:
    closing = statement.closing
    if closing is None or placement.base_minor is None or not lines.new:
        return
    moved = sum(
        statement.lines[at].amount_minor for at in lines.new if statement.lines[at].is_booked
    )
    difference = closing.amount_minor - placement.base_minor - moved
    if difference:
        raise FileRefused(
            [
                Problem(
                    code="overlap_mismatch",
                    message=(
                        "It overlaps what is known, and its new lines do not lead to its closing"
                        f" balance: it is off by {format_minor(abs(difference), closing.currency)}."
                    ),
                    statement=statement.name,
                    line=closing.source_line,
                    details={"difference_minor": difference, "currency": closing.currency},
                )
            ]
        )


def store_untaken_statement(
    *,
    file: BankFile,
    statement: Statement,
    index: bytes,
    account: BankAccount | None,
    state: StatementState,
    now: datetime,
    row: BankStatement | None = None,
) -> None:
    """Keep a statement of which nothing is taken: known before, of no account, or a lone page."""
    stored = _store(file, statement, index, account, row, now)
    stored.state = state
    stored.save(force_insert=row is None)


def _store(
    file: BankFile,
    statement: Statement,
    index: bytes,
    account: BankAccount | None,
    row: BankStatement | None,
    now: datetime,
) -> BankStatement:
    if row is not None:
        row.bank_account_id = account.id if account is not None else None
        row.state = StatementState.IMPORTED
        return row
    opening, closing = statement.opening, statement.closing
    return BankStatement(
        id=new_id(),
        organization_id=file.organization_id,
        bank_file_id=file.id,
        bank_account_id=account.id if account is not None else None,
        source=_source(statement),
        state=StatementState.IMPORTED,
        position=statement.position,
        identification_index=index,
        identification_tail=statement.account.identification[-4:],
        statement_id=statement.statement_id[:64],
        sequence=(statement.sequence or "")[:32],
        currency=statement.currency or "",
        opening_date=opening.date if opening else None,
        closing_date=closing.date if closing else None,
        opening_minor=opening.amount_minor if opening else None,
        closing_minor=closing.amount_minor if closing else None,
        line_count=len(statement.lines),
        lines_digest=_digest(statement),
        source_line=statement.source_line,
        created_at=now,
    )


def _close_gap(stored: BankStatement, placement: Placement) -> None:
    if placement.closes_gap_of is not None:
        BankStatement.objects.filter(
            organization_id=stored.organization_id,
            id=placement.closes_gap_of,
            chain=Chain.GAP,
        ).update(chain=Chain.FOLLOWS, previous_id=stored.id)


def _placed(
    account: BankAccount, stored: BankStatement, placement: Placement
) -> StatementTaken | None:
    if placement.chain == Chain.NONE:
        return None
    return StatementTaken(
        id=stored.id,
        bank_account_id=account.id,
        ledger_account_id=account.ledger_account_id,
        chain=placement.chain,
        currency=stored.currency,
        opening_minor=stored.opening_minor or 0,
        closed_gap_of=placement.closes_gap_of,
    )


def _write_lines(
    account: BankAccount,
    stored: BankStatement,
    statement: Statement,
    lines: _Lines,
    source: Source,
) -> bool:
    """Write the new lines, their details and statuses; say whether one of them is to be posted."""
    builder = LineBuilder(
        organization_id=account.organization_id, bank_account_id=account.id, source=source
    )
    ids = new_ids(len(lines.new)) if lines.new else []
    for id_, at in zip(ids, lines.new, strict=True):
        builder.add(
            statement.lines[at],
            id_=id_,
            statement_id=stored.id,
            identity=lines.identities[at],
            occurrence=lines.numbers[at],
        )
    _recognize_twins(account, builder, source)
    to_post = [line.id for line in builder.lines if _posts(line)]
    copy_rows(builder.lines)
    copy_rows(builder.details)
    copy_rows(builder.statuses(to_post))
    return bool(to_post)


def _posts(line: BankLine) -> bool:
    """
    Say whether the line moves money in our books.

    A notification posts only what the bank booked and named: without its reference it could not
    be recognised when the statement brings it (reconciliation.md, section 2).
    """
    named = line.source == Source.STATEMENT or bool(line.account_servicer_ref)
    return line.is_booked and line.same_as_id is None and named and line.amount_minor != 0


def _recognize_twins(account: BankAccount, builder: LineBuilder, source: Source) -> None:
    """Tie lines to those of the other source that say the same: they post nothing themselves."""
    candidates = [line for line in builder.lines if line.is_booked and line.account_servicer_ref]
    if not candidates:
        return
    other = Source.NOTIFICATION if source == Source.STATEMENT else Source.STATEMENT
    known = queries.list_twin_candidates(
        organization_id=account.organization_id,
        bank_account_id=account.id,
        source=other,
        refs={line.account_servicer_ref for line in candidates},
    )
    facts = [
        [(line, _twin_key(line), line.booking_date) for line in rows]
        for rows in (candidates, known)
    ]
    for line, twin in pair_twins(facts[0], facts[1]):
        line.same_as_id = twin.id


def _twin_key(line: BankLine) -> TwinKey:
    return TwinKey(
        account_servicer_ref=line.account_servicer_ref or "",
        amount_minor=line.amount_minor,
        currency=line.currency,
    )
