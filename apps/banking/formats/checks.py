"""
A file is taken whole or refused whole (reconciliation.md, section 3): the checks, over values.

Each returns every problem it finds, so that one look tells a person all that is wrong.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from apps.banking.formats.amounts import minor
from apps.banking.formats.problems import Problem, UnreadableFile
from apps.banking.formats.values import Balance, CamtFile, Kind, Line, Statement, Total
from apps.core.money import format_minor


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedFile:
    """What the checks make of a file: refused if there are problems."""

    statements: tuple[Statement, ...] = ()
    waiting: tuple[Statement, ...] = ()
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def check_file(file: CamtFile, *, name: str = "") -> CheckedFile:
    """
    Join pages into whole statements and check each; `waiting` are pages whose others are missing.

    A summary that does not fit refuses a statement, and only warns of a notification.
    """
    whole, waiting, problems = join_pages(file.statements)
    for statement in (*whole, *waiting):
        problems += check_currencies(statement)
    warnings: list[Problem] = []
    for statement in whole:
        if statement.kind == Kind.STATEMENT:
            problems += check_balances(statement)
            problems += check_summary(statement)
        else:
            warnings += check_summary(statement)
    return CheckedFile(
        statements=tuple(whole),
        waiting=tuple(waiting),
        problems=tuple(replace(problem, file=name) for problem in problems),
        warnings=tuple(replace(warning, file=name) for warning in warnings),
    )


def check_currencies(statement: Statement) -> list[Problem]:
    """Opening, closing and lines are in the account's currency: `currency_mismatch`."""
    expected = statement.currency
    problems = []
    for label, balance in (("opening", statement.opening), ("closing", statement.closing)):
        if balance is not None and balance.currency != expected:
            problems.append(
                _problem(
                    statement,
                    "currency_mismatch",
                    f"The {label} balance is in {balance.currency}, the account is in {expected}.",
                    line=balance.source_line,
                    expected=expected,
                    found=balance.currency,
                )
            )
    problems += [
        _problem(
            statement,
            "currency_mismatch",
            f"The entry is in {line.currency}, the account is in {expected}.",
            entry=line.position,
            line=line.source_line,
            expected=expected,
            found=line.currency,
        )
        for line in statement.lines
        if line.currency != expected
    ]
    return problems


def check_balances(statement: Statement) -> list[Problem]:
    """Opening + booked lines = closing, to the unit: `balance_mismatch` with the difference."""
    opening, closing = statement.opening, statement.closing
    if opening is None or closing is None:
        missing = "opening (OPBD or PRCD)" if opening is None else "closing (CLBD)"
        return [
            _problem(
                statement,
                "balance_missing",
                f"The {missing} balance is missing.",
                line=statement.source_line,
            )
        ]
    if opening.currency != closing.currency:
        return []  # Already a currency_mismatch: a difference between currencies means nothing.
    moved = sum(line.amount_minor for line in statement.booked)
    difference = closing.amount_minor - (opening.amount_minor + moved)
    if difference == 0:
        return []
    return [_balance_mismatch(statement, opening, closing, moved=moved, difference=difference)]


def _balance_mismatch(
    statement: Statement, opening: Balance, closing: Balance, *, moved: int, difference: int
) -> Problem:
    currency = opening.currency
    return _problem(
        statement,
        "balance_mismatch",
        f"The closing balance is off by {format_minor(abs(difference), currency)}: opening"
        f" {format_minor(opening.amount_minor, currency)} and {_lines(statement)}"
        f" of {format_minor(moved, currency)} make"
        f" {format_minor(opening.amount_minor + moved, currency)},"
        f" the statement says {format_minor(closing.amount_minor, currency)}.",
        line=closing.source_line,
        difference_minor=difference,
        currency=currency,
    )


def _lines(statement: Statement) -> str:
    count = len(statement.booked)
    return "1 booked line" if count == 1 else f"{count} booked lines"


def check_summary(statement: Statement) -> list[Problem]:
    """TxsSummry counts and sums equal those of the entries, where given: `summary_mismatch`."""
    summary, currency = statement.summary, statement.currency
    if summary is None or currency is None:
        return []
    groups = (
        ("entries", summary.all, lambda _line: True),
        ("credits", summary.credits, lambda line: line.amount_minor > 0),
        ("debits", summary.debits, lambda line: line.amount_minor < 0),
    )
    return [
        problem
        for label, total, belongs in groups
        for problem in _check_total(
            statement,
            label,
            total,
            # Banks count entries that are not booked, or do not; either is the truth.
            every=[line for line in statement.lines if belongs(line)],
            booked=[line for line in statement.booked if belongs(line)],
        )
    ]


def _check_total(
    statement: Statement, label: str, total: Total, *, every: Sequence[Line], booked: Sequence[Line]
) -> list[Problem]:
    currency = statement.currency or ""
    line = statement.summary.source_line if statement.summary else None
    problems = []
    if total.count is not None and total.count not in {len(every), len(booked)}:
        message = f"The summary counts {total.count} {label}, the statement has {len(every)}."
        problems.append(_problem(statement, "summary_mismatch", message, line=line))
    if total.sum_text is not None:
        try:
            stated = minor(total.sum_text.removeprefix("-"), currency, line=line)
        except UnreadableFile as fault:
            return [*problems, fault.within(statement=statement.name).problem]
        if stated not in {_gross(every), _gross(booked)}:
            problems.append(
                _problem(
                    statement,
                    "summary_mismatch",
                    f"The summary's {label} sum to {format_minor(stated, currency)},"
                    f" the statement's to {format_minor(_gross(every), currency)}.",
                    line=line,
                )
            )
    return problems


def _gross(lines: Iterable[Line]) -> int:
    return sum(abs(line.amount_minor) for line in lines)


def join_pages(
    statements: Sequence[Statement],
) -> tuple[list[Statement], list[Statement], list[Problem]]:
    """
    Return whole statements (pages joined), pages that wait for others, and broken chains.

    Pages belong together by account, currency and statement id; interim balances must chain.
    """
    whole: list[Statement] = []
    groups: dict[tuple[str, str | None, str], list[Statement]] = {}
    for statement in statements:
        if statement.is_whole:
            whole.append(statement)
        else:
            number = statement.account.identification
            key = (number, statement.currency, statement.statement_id)
            groups.setdefault(key, []).append(statement)
    waiting: list[Statement] = []
    problems: list[Problem] = []
    for group in groups.values():
        pages = sorted(group, key=lambda page: page.page_number or 1)
        numbers = [page.page_number or 1 for page in pages]
        if numbers != list(range(1, len(pages) + 1)) or not pages[-1].is_last_page:
            waiting += group
            continue
        problems += _check_chain(pages)
        whole.append(_join(pages))
    return sorted(whole, key=lambda statement: statement.position), waiting, problems


def _check_chain(pages: Sequence[Statement]) -> list[Problem]:
    problems = []
    for before, after in pairwise(pages):
        ends = [balance for balance in before.balances if balance.code == "ITBD"]
        starts = [balance for balance in after.balances if balance.code == "ITBD"]
        if ends and starts and ends[-1].amount_minor != starts[0].amount_minor:
            problems.append(
                _problem(
                    after,
                    "page_mismatch",
                    f"Page {after.page_number} does not begin where page"
                    f" {before.page_number} ends.",
                    line=starts[0].source_line,
                )
            )
    return problems


def _join(pages: Sequence[Statement]) -> Statement:
    lines = [line for page in pages for line in page.lines]
    opening, closing = pages[0].opening, pages[-1].closing
    return replace(
        pages[0],
        page_number=None,
        is_last_page=True,
        balances=(
            *([] if opening is None else [replace(opening, code="OPBD")]),
            *([] if closing is None else [replace(closing, code="CLBD")]),
        ),
        lines=tuple(replace(line, position=at) for at, line in enumerate(lines, start=1)),
        # Each page sums up itself, or the whole: neither can be told from the other.
        summary=None,
    )


def _problem(
    statement: Statement,
    code: str,
    message: str,
    *,
    entry: int | None = None,
    line: int | None = None,
    **details: object,
) -> Problem:
    return Problem(
        code=code,
        message=message,
        statement=statement.name,
        entry=entry,
        line=line,
        details=details,
    )
