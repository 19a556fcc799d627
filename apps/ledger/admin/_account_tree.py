"""The tree of ledger accounts: its open levels as one table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from apps.accounts.models import Organization
from apps.core import clock
from apps.core.admin_base import Table, cells, lists
from apps.ledger import queries
from apps.ledger.admin._links import account_link, short_code
from apps.ledger.queries import Branch
from apps.ledger.rules import CREDIT_NORMAL


def tree(organization: Organization, request: HttpRequest) -> dict[str, Any]:
    """Return the open levels as one table, each branch under the one it belongs to."""
    path = lists.typed(request.GET.get("under", ""))
    after = lists.typed(request.GET.get("from", ""))
    levels = queries.list_levels(
        organization_id=organization.id, now=clock.now(), path=path, after=after
    )
    own = {"organization": str(organization.id)} if request.GET.get("organization") else {}

    def link(**query: str) -> str:
        return f"?{urlencode(own | {name: found for name, found in query.items() if found})}"

    def rows(prefix: str, depth: int) -> list[list[SafeString | str]]:
        found = []
        for branch in levels[prefix].branches:
            is_open = branch.path in levels and branch.has_branches
            found.append(_branch_row(branch, depth, link, is_open=is_open))
            if is_open:
                found += rows(branch.path, depth + 1)
        return found

    is_whole = not levels[""].has_more and (len(levels) > 1 or not after)
    sums = [branch.sums for branch in levels[""].branches] if is_whole else []
    last = levels[path].branches if path in levels else []
    return {
        "table": Table(
            "",
            (
                "Branch",
                "Type",
                ">Accounts",
                ">Posted, debit",
                ">Posted, credit",
                ">Pending out",
                ">Pending in",
                ">Available",
            ),
            rows("", 0),
            empty=_why_empty(path),
            # Branches stand on either side; only what is posted adds up to something, and only all
            # of them together.
            totals=[
                "Sum",
                "",
                "",
                *(cells.amounts(_added(sums, sign)) for sign in (1, -1)),
                "",
                "",
                "",
            ]
            if sums
            else (),
        ),
        "more": link(under=path, **{"from": last[-1].name})
        if last and levels[path].has_more
        else "",
        "list_url": link(code=f"{path}:" if path else "", flat="1"),
        "path": short_code(path),
    }


def _why_empty(path: str) -> str:
    """Say why there is no branch here."""
    if path:
        return "No account has a code below this one."
    return "No account has been opened yet; the first customer or bank account opens some."


def _branch_row(
    branch: Branch, depth: int, link: Callable[..., str], *, is_open: bool
) -> list[SafeString | str]:
    name = short_code(branch.name)
    if branch.has_branches:
        url = link(under=branch.path.rpartition(":")[0] if is_open else branch.path)
        mark = "\u25be" if is_open else "\u25b8"
        label = format_html(
            '<a href="{}" aria-expanded="{}"><span class="k-twist" aria-hidden="true">{}</span>'
            " {}</a>",
            url,
            "true" if is_open else "false",
            mark,
            name,
        )
    else:
        label = format_html('<span class="k-twist" aria-hidden="true"></span> {}', name)
    if branch.account_id is not None:
        label = format_html("{} {}", label, account_link(branch.account_id, "statement"))
    return [
        format_html('<span class="k-tree" style="--depth: {}">{}</span>', depth, label),
        cells.text(", ".join(sorted(branch.types))),
        cells.number(branch.accounts),
        *_sides(branch.sums),
        *_reserved(branch),
    ]


def _sides(sums: Mapping[str, int]) -> tuple[SafeString | str, SafeString | str]:
    """Draw sums on the side they stand on, a line per currency."""
    debits = {currency: net for currency, net in sums.items() if net > 0}
    credits_ = {currency: -net for currency, net in sums.items() if net < 0}
    return (
        cells.amounts(debits) if debits else "",
        cells.amounts(credits_) if credits_ else "",
    )


def _reserved(branch: Branch) -> list[SafeString | str]:
    """Draw what is pending and available, where the accounts of a branch are of one side."""
    if 0 < len(branch.types & CREDIT_NORMAL) < len(branch.types):
        return [cells.NONE] * 3
    return [
        cells.amounts({currency: sum_ for currency, sum_ in sums.items() if sum_ or not is_pending})
        for sums, is_pending in (
            (branch.pending_out, True),
            (branch.pending_in, True),
            (branch.available, False),
        )
    ]


def _added(sums: Sequence[Mapping[str, int]], sign: int) -> dict[str, int]:
    """Add up one side of the branches; where the books are right both come to the same."""
    total: dict[str, int] = {}
    for one in sums:
        for currency, net in one.items():
            total[currency] = total.get(currency, 0) + max(sign * net, 0)
    return total
