"""What was posted with `force`, and is audited for it."""

from collections.abc import Iterable
from uuid import UUID

from apps.core import audit
from apps.core.actors import Actor
from apps.core.ids import encode_id
from apps.ledger.rules import Outcome, PostEntry, Transfer


def record_forced(
    organization_id: UUID, asked: Iterable[tuple[Outcome, Actor, str | None]]
) -> None:
    """
    Leave the audit row of each transfer or entry that was forced; others leave none.

    Each comes with who asked for it, and the id of the request it is of, where another one's thread
    writes it.
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
                },
            )
            for outcome, actor, request_id in asked
            if isinstance(command := outcome.command, Transfer | PostEntry)
            and command.force
            and outcome.lines
        ]
    )
