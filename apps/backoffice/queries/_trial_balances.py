"""Trial balances as trees: what every account stands at, and what a month moved."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from apps.ledger import queries as ledger


@dataclass(frozen=True, slots=True)
class Branch:
    """A line of the trial balance: accounts whose codes differ in ids only, or of one root."""

    code: str
    prefix: str
    type: str
    accounts: int
    debit: int
    credit: int


@dataclass(frozen=True, slots=True)
class CurrencyBalance:
    """The trial balance of one currency."""

    currency: str
    branches: Sequence[Branch]
    debit: int
    credit: int

    @property
    def residue(self) -> int:
        """Return by how much debits exceed credits: 0, or the books are wrong."""
        return self.debit - self.credit


def trial_balances(*, organization_id: UUID, code_prefix: str = "") -> list[CurrencyBalance]:
    """Return the trial balance per currency, accounts of one kind in one line."""
    by_currency: dict[str, list[ledger.TrialBalanceLine]] = {}
    found = ledger.trial_balance(organization_id=organization_id, code_prefix=code_prefix)
    for line in found:
        by_currency.setdefault(line.currency, []).append(line)
    totals = ledger.trial_balance_totals(found)
    return [
        CurrencyBalance(currency, _branches(lines), *totals[currency])
        for currency, lines in by_currency.items()
    ]


_ID_LENGTH_MIN: Final = 20
# What a person reads; a client that names accounts by short ids may have as many as customers.
LINES_OF_A_ROOT_MAX: Final = 50
LINES_MAX: Final = 500
_MORE: Final = "…"


def _branches(lines: Iterable[ledger.TrialBalanceLine]) -> list[Branch]:
    return [
        Branch(
            code=code,
            prefix=_prefix(code, own),
            type=type_,
            accounts=len(own),
            debit=sum(line.debit for line in own),
            credit=sum(line.credit for line in own),
        )
        for (code, type_), own in _grouped(lines)
    ]


def _grouped[L: (ledger.TrialBalanceLine, ledger.AccountMovement)](
    lines: Iterable[L],
) -> list[tuple[tuple[str, str], list[L]]]:
    """
    Return the lines by what they have in common, code without ids and type, in this order.

    A root of more than `LINES_OF_A_ROOT_MAX` has a line per type, as `root:…`; roots that do not
    fit into `LINES_MAX` share the last line, so that all of them add up to the whole.
    """
    grouped: dict[tuple[str, str], list[L]] = {}
    for line in lines:
        grouped.setdefault((_without_ids(line.code), line.type), []).append(line)
    by_root: dict[str, list[tuple[str, str]]] = {}
    for key in grouped:
        by_root.setdefault(_root(key[0]), []).append(key)
    for root, keys in by_root.items():
        if len(keys) > LINES_OF_A_ROOT_MAX:
            for key in keys:
                grouped.setdefault((f"{root}:{_MORE}", key[1]), []).extend(grouped.pop(key))
    # By segments: as text, what lies below `a` comes in two parts, before and after `a1`.
    found = sorted(grouped.items(), key=lambda one: (one[0][0].split(":"), one[0][1]))
    shown = found[:LINES_MAX]
    if len(found) > LINES_MAX:
        # All of a root or none: it has a sum of its own.
        cut = _root(found[LINES_MAX][0][0])
        shown = [one for one in shown if _root(one[0][0]) != cut]
    rest = [line for _, own in found[len(shown) :] for line in own]
    return shown + ([((_MORE, ""), rest)] if rest else [])


def _root(code: str) -> str:
    return code.split(":", maxsplit=1)[0]


def _prefix(
    code: str, own: Sequence[ledger.TrialBalanceLine] | Sequence[ledger.AccountMovement]
) -> str:
    """Return what the codes of these begin with; of one account its whole code."""
    return own[0].code if len(own) == 1 else code.split("*", maxsplit=1)[0].rstrip(_MORE)


@dataclass(frozen=True, slots=True)
class MovedBranch:
    """
    A line of a month's trial balance: accounts whose codes differ in ids only, or of one root.

    `account_id` is there where it is one account. Balances are debits less credits.
    """

    code: str
    prefix: str
    type: str
    accounts: int
    opening: int
    debits: int
    credits: int
    account_id: UUID | None = None

    @property
    def closing(self) -> int:
        return self.opening + self.debits - self.credits

    @property
    def root(self) -> str:
        return _root(self.code)


@dataclass(frozen=True, slots=True)
class CurrencyMovement:
    """The trial balance of one currency in one month."""

    total: ledger.CurrencyTotal
    branches: Sequence[MovedBranch]

    def subtotal(self, root: str) -> MovedBranch | None:
        """Return the sum of a first segment's lines, if it has several."""
        own = [branch for branch in self.branches if branch.root == root]
        if len(own) == 1:
            return None
        return MovedBranch(
            f"All of {root}",
            f"{root}:",
            "",
            sum(branch.accounts for branch in own),
            sum(branch.opening for branch in own),
            sum(branch.debits for branch in own),
            sum(branch.credits for branch in own),
        )


def month_trial_balances(
    view: ledger.PeriodView, *, currency: str = "", code_prefix: str = ""
) -> list[CurrencyMovement]:
    """Return a month's trial balance per currency; of a closed month, as it was stored."""
    lines = ledger.movements_of(view, currency=currency, code_prefix=code_prefix)
    by_currency: dict[str, list[ledger.AccountMovement]] = {}
    for line in lines:
        by_currency.setdefault(line.currency, []).append(line)
    return [
        CurrencyMovement(total, _moved_branches(by_currency[total.currency]))
        for total in ledger.movement_totals(lines)
    ]


def _moved_branches(lines: Iterable[ledger.AccountMovement]) -> list[MovedBranch]:
    return [
        MovedBranch(
            code=code,
            prefix=_prefix(code, own),
            type=type_,
            accounts=len(own),
            opening=sum(line.opening for line in own),
            debits=sum(line.debits for line in own),
            credits=sum(line.credits for line in own),
            account_id=own[0].account_id if len(own) == 1 else None,
        )
        for (code, type_), own in _grouped(lines)
    ]


def _without_ids(code: str) -> str:
    return ":".join("*" if len(part) >= _ID_LENGTH_MIN else part for part in code.split(":"))
