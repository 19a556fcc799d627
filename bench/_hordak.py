"""django-hordak at work, in its own project (`bench.hordak_settings`); runs as a child."""

import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from hordak.models import Account
from moneyed import Money

# Each process holds so many of the accounts: to load them all would take longer than to measure.
_ACCOUNTS_DRAWN: Final = 1_000


def prepare(order: Mapping[str, Any]) -> Callable[[], dict[str, float]]:
    """Return what opens `open` accounts, or without any what transfers between them for a time."""
    if order["open"]:
        return lambda: _open(order["open"])
    # Which two accounts is drawn beforehand, and differs between the processes.
    drawn = random.Random(order["place"])  # noqa: S311  (a choice, not a secret)
    ids = list(Account.objects.order_by("id").values_list("id", flat=True))
    accounts = list(Account.objects.filter(id__in=drawn.sample(ids, _ACCOUNTS_DRAWN)))
    pairs = [drawn.sample(accounts, 2) for _ in range(10_000)]
    one = Money("0.01", "EUR")

    def transfer_for(seconds: float) -> dict[str, float]:
        count, started = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - started) < seconds:
            debited, credited = pairs[count % len(pairs)]
            debited.transfer_to(credited, one, description="bench")
            count += 1
        return {"per_second": count / elapsed}

    transfer_for(order["warm_up"])
    return lambda: transfer_for(order["seconds"])


def _open(count: int) -> dict[str, float]:
    Account.objects.bulk_create(
        [
            # Roots of trees of their own: what the tree library would have set, one by one.
            Account(name=f"Wallet {n}", type="LI", lft=1, rght=2, level=0, tree_id=n + 1)
            for n in range(count)
        ],
        batch_size=1000,
    )
    return {"opened": count}
