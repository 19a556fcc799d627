"""The chapters, in order: each says what it did, or ends the story when it did not go so."""

from pathlib import Path
from typing import Final

from apps.backoffice.management.story import money_in, money_out, opening, proof
from apps.backoffice.management.story.client import StepFailed, until
from apps.backoffice.management.story.plot import (
    Story,
)

_TOLD: Final = ("payment.received", "payout.settled", "payout.returned", "journal_entry.posted")


def tell(story: Story, *, statement: Path | None) -> None:
    """Tell the whole story; a statement that the import refuses ends it there."""
    given = _given_statement(statement)
    try:
        opening.gather(story, *given)
        money_in.import_statement(story, *given)
        money_in.fund_customers(story)
        money_out.transfer(story)
        money_out.pay_out(story)
        _events(story)
    finally:
        story.api.close()
    proof.prove(story.teller, organization_id=story.organization_id, folder=story.folder)


def _given_statement(path: Path | None) -> tuple[str, bytes | None]:
    if path is None:
        return "our own", None
    if not path.is_file():
        msg = f"there is no file {path}"
        raise StepFailed(msg)
    return path.name, path.read_bytes()


def _events(story: Story) -> None:
    story.teller.chapter("Every step was told to the webhook endpoint, signed")

    def published() -> dict[str, str]:
        found: dict[str, str] = {}
        cursor = None
        while True:
            page = story.api.get("/v1/events", limit=100, **({"after": cursor} if cursor else {}))
            found |= {event["id"]: event["type"] for event in page["data"]}
            cursor = page["next"]
            if not page["has_more"]:
                return found

    def complete() -> bool:
        # The last event is in the feed only once the relay has given it its place there.
        if not story.received.types().keys() >= set(_TOLD):
            return False
        with story.received.lock:
            have = set(story.received.events)
        wanted = published()
        # The endpoint gets what happened after it was made.
        return {id_ for id_ in wanted if id_ > min(have, default="")} <= have

    until(complete, "every event to be delivered", 120)
    counts = story.received.types()
    story.teller.table(
        "Events received", ["Type", "Count>"], [(t, str(n)) for t, n in sorted(counts.items())]
    )
    for type_ in _TOLD:
        story.check(f"{type_} was delivered", holds=counts[type_] > 0)
    story.check(
        f"{story.received.deliveries} deliveries, every signature right (Standard Webhooks)",
        holds=story.received.bad_signatures == 0,
    )
