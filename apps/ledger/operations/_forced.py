"""What was posted with `force`, and is audited for it."""

from collections.abc import Iterable
from uuid import UUID

from apps.core import audit
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.core.wall_clock import print_instant
from apps.ledger.rules import BrokenFloor, Outcome, PostedLine, PostEntry, Transfer


def record_forced(
    organization_id: UUID, asked: Iterable[tuple[Outcome, Actor, str | None]]
) -> None:
    """
    Leave the audit row of each transfer or entry that was forced; others leave none.

    Each comes with who asked for it, and the id of the request it is of, where another one's thread
    writes it. A row says what moved on which account, a debit positive; and of each floor that was
    broken the lowest balance, on the account's normal side, and from when on it stood. All of it
    is what the engine decided by: nothing is read for it.
    """
    audit.record_all(
        [
            audit.row(
                "ledger.force_transfer" if isinstance(command, Transfer) else "ledger.force_entry",
                ("ledger.journalentry", str(outcome.entry_id)),
                organization_id=organization_id,
                actor=actor,
                reason="Asked for with force.",
                request_id=request_id,
                after={
                    "journal_entry": encode_id("je", command.id),
                    "effective_at": str(outcome.effective_at),
                    "postings": [_shown_line(line) for line in outcome.lines],
                    "floors_broken": [_shown_floor(floor) for floor in outcome.broken],
                },
            )
            for outcome, actor, request_id in asked
            if isinstance(command := outcome.command, Transfer | PostEntry)
            and command.force
            and outcome.lines
        ]
    )


def _shown_line(line: PostedLine) -> dict[str, object]:
    return {
        "ledger_account": encode_id("la", line.account_id),
        "amount": line.amount_minor,
        "currency": line.currency,
    }


def _shown_floor(broken: BrokenFloor) -> dict[str, object]:
    return {
        "ledger_account": encode_id("la", broken.account_id),
        "currency": broken.currency,
        "min_available": broken.min_available_minor,
        "balance": broken.balance_minor,
        "balance_at": print_instant(broken.at),
    }
