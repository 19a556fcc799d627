"""The outbox and its work rows (events.md, sections 1, 2 and 6), and who works them."""

import time
from typing import Final

import psycopg

from bench import children, database, processes
from bench._registry import Figure, benchmark
from bench._rounds import WARM_UP_SECONDS, reduced, shortened
from bench.broker import broker
from bench.webhooks import WORKERS

_RATE: Final = 200
_LAG_SECONDS: Final = 60.0
_CLAIM_LIMIT: Final = 100
_WORK_ROWS: Final = 1_000_000
# How much of what is due is the backlog of one organization, before what the others wait for.
_DUE: Final = {"spread": 0.0, "of_one": 1.0, "behind_one": 0.9}
_ORGANIZATIONS: Final = 1_000
_QUEUED: Final = 100_000
_WARM_UP_EVENTS: Final = 500
_OVERDUE_SECONDS_MAX: Final = 300
# Long after it failed its bound a run is still told by how much.
_DRAIN_SECONDS_MAX: Final = 1_800
_LOOK_EVERY_SECONDS: Final = 0.5

_IS_DUE: Final = """
    SELECT EXISTS (SELECT FROM core_outbox_batch WHERE state IN ('pending', 'leased'))
        OR EXISTS (SELECT FROM core_event_work WHERE state IN ('pending', 'leased'))
"""
_UNNUMBERED: Final = "SELECT count(*) FROM core_outbox_batch WHERE public AND position IS NULL"
_BY_STATE: Final = "SELECT state, count(*) FROM core_event_work GROUP BY state"


@benchmark
def outbox_lag() -> Figure:
    """p99 from an event's COMMIT to its fan-out's, 200 events/s, each delivered as well."""
    seconds = shortened(_LAG_SECONDS)
    with database.scratch("outbox") as name, broker() as running:
        environment = database.environment(name) | {"REDIS_URL": running.url}
        with processes.running(*WORKERS, environment=environment):
            measured = children.ask(
                "bench._lag",
                {"rate": _RATE, "seconds": seconds, "warm_up": WARM_UP_SECONDS},
                environment=environment,
            )
    return Figure(
        name="outbox_lag", value=1000 * measured["p99"], unit="ms p99", must=1000,
        lower_is_better=True,
        how=f"open loop, {_RATE} events/s for {seconds:g} s, one endpoint that gets them all",
        detail={
            "p50_ms": round(1000 * measured["p50"], 1),
            "slowest_ms": round(1000 * measured["slowest"], 1),
        },
    )  # fmt: skip


@benchmark
def work_claim() -> Figure:
    """p99 of a claim of 100 rows in a table of a million, of which one in five is due."""
    rows = max(10 * _CLAIM_LIMIT, reduced(_WORK_ROWS))
    # Half of those that are due are claimed, so that each claim finds as many as it asks for.
    claims = max(1, rows // 5 // (2 * _CLAIM_LIMIT))
    measured = {}
    for due, backlog in _DUE.items():
        with database.scratch("work") as name:
            measured[due] = children.ask(
                "bench._claims",
                {
                    "rows": rows,
                    "claims": claims,
                    "limit": _CLAIM_LIMIT,
                    "organizations": _ORGANIZATIONS,
                    "backlog": int(rows * backlog),
                },
                environment=database.environment(name),
            )
    slowest = max(measured.values(), key=lambda each: each["p99"])
    return Figure(
        name="work_claim", value=1000 * slowest["p99"], unit="ms p99", must=20,
        lower_is_better=True,
        how=f"{claims:,} claims of {_CLAIM_LIMIT} rows one after the other among {rows:,}, "
            "each one's rows done before the next; the slowest way that these are spread",
        detail={
            f"{due}_{name}_ms": round(1000 * each[name], 2)
            for due, each in measured.items()
            for name in ("p50", "p99", "slowest")
        },
    )  # fmt: skip


@benchmark
def outbox_drain() -> Figure:
    """Seconds until nothing is due of what was queued while the broker was away."""
    events = reduced(_QUEUED)
    with database.scratch("drain") as name, broker() as running:
        environment = database.environment(name) | {"REDIS_URL": running.url}
        with processes.running(*WORKERS, environment=environment):
            _publish(environment, _WARM_UP_EVENTS)
            _drained(name)
            running.stop()
            published = _publish(environment, events)
            _refuse_unless_queued(name, events)
            running.start()
            seconds = _drained(name)
        _refuse_unless_done(name, events + _WARM_UP_EVENTS)
    return Figure(
        name="outbox_drain", value=seconds, unit="s", must=_OVERDUE_SECONDS_MAX,
        lower_is_better=True,
        how=f"{events:,} events of 20 organizations, each a transaction and a work row, from the "
            "broker's start; their one endpoint wants none of them",
        detail={"rows_per_s": round(events / seconds, 1), "queued_per_s": round(published, 1)},
    )  # fmt: skip


def _publish(environment: dict[str, str], count: int) -> float:
    answer = children.ask("bench._publisher", {"count": count}, environment=environment)
    return float(answer["per_second"])


def _drained(name: str) -> float:
    """Wait until no row is due; return how long that took, in seconds."""
    began = time.monotonic()
    with psycopg.connect(database.address(name), autocommit=True) as connection:
        while _value(connection, _IS_DUE):
            if time.monotonic() - began > _DRAIN_SECONDS_MAX:
                msg = f"Rows are due after {_DRAIN_SECONDS_MAX} s: {_by_state(name)}"
                raise RuntimeError(msg)
            time.sleep(_LOOK_EVERY_SECONDS)
    return time.monotonic() - began


def _refuse_unless_queued(name: str, events: int) -> None:
    with psycopg.connect(database.address(name)) as connection:
        queued = _value(connection, _UNNUMBERED)
    if queued < events:
        msg = f"Of {events} events {queued} are queued: the broker was not away."
        raise RuntimeError(msg)


def _refuse_unless_done(name: str, events: int) -> None:
    """End the run unless every event was numbered and worked, and no row set aside."""
    with psycopg.connect(database.address(name)) as connection:
        unnumbered = _value(connection, _UNNUMBERED)
    states = _by_state(name)
    if unnumbered or set(states) != {"done"} or states["done"] < events:
        msg = f"Of {events} events {unnumbered} have no position; work rows by state: {states}"
        raise RuntimeError(msg)


def _by_state(name: str) -> dict[str, int]:
    with psycopg.connect(database.address(name)) as connection:
        return dict(connection.execute(_BY_STATE).fetchall())


def _value(connection: "psycopg.Connection[tuple[int, ...]]", query: str) -> int:
    row = connection.execute(query).fetchone()
    return row[0] if row else 0
