"""One writer of `ledger_engine_bulk`: batch after batch until its time is over; runs as a child."""

import time
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final
from uuid import UUID, uuid4

from apps.core import clock
from apps.core.actors import Actor
from apps.ledger import operations as ledger
from apps.ledger.operations import TransferRequest

ACTOR: Final = Actor.job("bench")
_TURNS: Final = 4


def prepare(order: Mapping[str, Any]) -> Callable[[], dict[str, float]]:
    """Make the batches and warm up; return what posts for `seconds` and says how much."""
    organization_id = UUID(order["organization"])
    listed = [UUID(text) for text in order["accounts"]]
    batches = [_batch(listed, order["size"], turn) for turn in range(_TURNS)]
    label, numbers = uuid4().hex, count()

    def post_for(seconds: float) -> dict[str, float]:
        posted, started = 0, time.perf_counter()
        # At least one batch, however short the time.
        elapsed = 0.0
        while elapsed < seconds or not posted:
            number = next(numbers)
            result = ledger.post_transfers(
                organization_id=organization_id,
                transfers=batches[number % _TURNS],
                mode="atomic",
                idempotency_key=f"{label}-{number}",
                actor=ACTOR,
                now=clock.now(),
            )
            posted += len(result.entry_ids)
            elapsed = time.perf_counter() - started
        return {"per_second": posted / elapsed}

    post_for(order["warm_up"])
    return lambda: post_for(order["seconds"])


def _batch(accounts: list[UUID], size: int, turn: int) -> list[TransferRequest]:
    """Return transfers of one unit that together leave most balances as they were."""
    total = len(accounts)
    return [
        TransferRequest(
            debit_account_id=accounts[place % total],
            credit_account_id=accounts[(place + total // 2 + turn) % total],
            amount_minor=1,
            currency="EUR",
        )
        for place in range(size)
    ]
