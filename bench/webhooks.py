"""
Deliveries of webhooks (events.md, section 6): rows, lanes, signature, check of the address, record.

Kassa's workers are those of the Procfile, on a database and a broker of their own; the receiver
shares the machine with them.
"""

from typing import Final

from bench import children, database, processes
from bench._registry import Figure, benchmark
from bench._rounds import HOW, ROUNDS, SECONDS, WARM_UP_SECONDS, shortened
from bench.broker import broker

WORKERS: Final = ("worker", "webhooks", "webhooks_slow", "beat")
_ENDPOINTS: Final = 8
# At the rate that must be reached, a round takes as long as any other benchmark's.
_DELIVERIES_PER_SECOND: Final = 500
# Leaves the two cores room: what waits then waits for the workers' own reasons.
_RATE: Final = 25
_RATE_ENDPOINTS: Final = 4
_ANSWERS: Final = 1_000


@benchmark
def webhooks_deliveries() -> Figure:
    """Deliveries to endpoints that answer at once, while another one hangs on each lane."""
    events = max(1, int(SECONDS * _DELIVERIES_PER_SECOND) // _ENDPOINTS)
    measured = _measure({"measure": "saturated", "events": events, "endpoints": _ENDPOINTS})
    # Judged in deliveries a second; what one bare loop of the client sends stands beside it.
    return Figure(
        name="webhooks_deliveries", value=measured["per_second"], unit="deliveries/s",
        reference=measured["bare_per_second"], must=_DELIVERIES_PER_SECOND,
        how=f"median of {ROUNDS} rounds of {events * _ENDPOINTS:,} deliveries to {_ENDPOINTS} "
            "endpoints after a warm-up, one more endpoint hanging; "
            "reference: one bare loop of the HTTP client, in turns",
    )  # fmt: skip


@benchmark
def webhooks_p95_beside_slow() -> Figure:
    """p95 from record to arrival beside an endpoint of 15 s an answer, 500 queued."""
    measured = _measure(
        {
            "measure": "at_rate",
            "rate": _RATE,
            "seconds": SECONDS,
            "warm_up": WARM_UP_SECONDS,
            "endpoints": _RATE_ENDPOINTS,
        }
    )
    return Figure(
        name="webhooks_p95_beside_slow", value=1000 * measured["beside"], unit="ms p95",
        against="p95 without", reference=1000 * measured["alone"], must=1.2, lower_is_better=True,
        how=f"open loop, {_RATE} events/s to {_RATE_ENDPOINTS} endpoints; in turns beside one more "
            f"that answers after 15 s, with 500 deliveries queued; {HOW}",
    )  # fmt: skip


@benchmark
def webhooks_memory() -> Figure:
    """By how much a sender grows while answers without end come to it."""
    answers = max(1, int(shortened(_ANSWERS)))
    measured = children.ask(
        "bench._endless", {"answers": answers}, environment=database.environment()
    )
    return Figure(
        name="webhooks_memory", value=measured["grown_kib"] / 1024, unit="MiB", must=1,
        lower_is_better=True, how=f"peak over what it held after a warm-up, {answers:,} answers",
        detail={
            "before_mib": round(measured["before_kib"] / 1024, 1),
            "sent_mib": round(measured["sent_bytes"] / 2**20, 1),
        },
    )  # fmt: skip


def _measure(order: dict[str, object]) -> dict[str, float]:
    with database.scratch("webhooks") as name, broker() as running:
        environment = database.environment(name) | {"REDIS_URL": running.url}
        with processes.running(*WORKERS, environment=environment):
            answer: dict[str, float] = children.ask(
                "bench._deliveries", order, environment=environment
            )
    return answer
