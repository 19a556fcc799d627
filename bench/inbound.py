"""
What providers tell (events.md, section 5), through all of the path.

Signature, limits, sealed body and row in the web server; claim, handler, rank, effect and event in
the workers. Both and the load driver share the machine with the database.
"""

from dataclasses import replace
from typing import Final

import psycopg

from bench import children, database, processes, tpcb
from bench._cards import STEPS, type_of
from bench._registry import TPCB, Figure, benchmark
from bench._rounds import HOW, WARM_UP_SECONDS, middle
from bench.broker import broker
from bench.driving import Hook, Load, Order, drive, web
from bench.faults import wait_until
from bench.webhooks import WORKERS

_CLIENTS: Final = 16
# Each round tells of a card once, and none comes to so many.
_CARDS: Final = 100_000

_OPEN: Final = """
    SELECT count(*) FROM webhooks_inboundevent WHERE state IN ('pending', 'leased')
"""
_APPLIED: Final = """
    SELECT count(*), extract(epoch FROM max(decided_at) - min(received_at))::float8
      FROM webhooks_inboundevent WHERE type = %s AND outcome = 'applied'
"""
_MOVED: Final = "SELECT count(*) FROM bench_card WHERE rank = %s"


@benchmark
def inbound_events() -> Figure:
    """Events that a provider signs and POSTs, from the first of a round until all are applied."""
    tpcb.before()
    with database.scratch("inbound") as name, broker() as running:
        environment = database.environment(name) | {
            "REDIS_URL": running.url,
            "DJANGO_SETTINGS_MODULE": "bench.inbound_settings",
        }
        made = children.ask("bench._inbound", {"cards": _CARDS}, environment=environment)
        hook = Hook(path=made["path"], secret=made["secret"], count=_CARDS)
        order = Order(clients=_CLIENTS, hook=hook, accepted="200")
        with (
            processes.running(*WORKERS, environment=environment),
            web(name, REDIS_URL=running.url) as port,
        ):
            _tell(name, port, replace(order, seconds=WARM_UP_SECONDS), step=1)
            rounds = [_tell(name, port, order, step=step) for step in range(2, STEPS + 1)]
    applied, load = middle(rounds, key=lambda each: each[0])
    return Figure(
        name="inbound_events", value=applied, unit="events/s", against=TPCB,
        how=f"{_CLIENTS} clients, each event about another card; applied ones over the time from "
            f"the first one's arrival to the last one's effect; {HOW}",
        detail={"taken_per_s": round(load.per_second, 1)} | load.detail,
    )  # fmt: skip


def _tell(name: str, port: int, order: Order, *, step: int) -> tuple[float, Load]:
    """
    Have cards go this step on; return events applied a second, and what the driver saw.

    :raises RuntimeError: unless each event that was answered 200 is applied, and moved its card
    """
    assert order.hook is not None  # noqa: S101  (it is what is posted to)
    type_ = type_of(step)
    load = drive(port, [], replace(order, hook=replace(order.hook, type=type_)))
    with psycopg.connect(database.address(name), autocommit=True) as connection:

        def count(query: str, *given: object) -> int:
            row = connection.execute(query, given).fetchone()
            return int(row[0]) if row else 0

        wait_until(lambda: not count(_OPEN), what="every event of the provider is worked")
        applied, seconds = connection.execute(_APPLIED, [type_]).fetchone() or (0, 0.0)
        moved = count(_MOVED, step)
    if not applied == moved == load.sent:
        msg = f"Of {load.sent} events {applied} are applied, and {moved} cards moved."
        raise RuntimeError(msg)
    return applied / seconds, load
