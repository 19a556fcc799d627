"""What came of a call, as a machine compares it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from apps.core.errors import Refusal
from apps.ledger.rules import BalanceAfter
from tests.ledger.naive import Result


def outcome_of(call: Callable[[], Any]) -> Any:
    """Return its answer, or the refusal that it raised."""
    try:
        return call()
    except Refusal as refusal:
        return refusal


def guilty(results: Sequence[Result]) -> tuple[int | None, str | None]:
    """The index and code of the refusal that is raised of several, or the code of the one."""
    refused = [(i, result.code) for i, result in enumerate(results) if result.code]
    found = [one for one in refused if one[1] != "linked_command_failed"] or refused
    index, code = found[0]
    # One and the same result is that of the whole, and of no single command.
    return (None if all(result is results[index] for result in results) else index), code


def told_of(balances: Iterable[BalanceAfter]) -> dict[UUID, tuple[int, int, int]]:
    """Return what an answer says of its accounts: version, posted and available."""
    return {after.id: (after.version, after.posted, after.available) for after in balances}
