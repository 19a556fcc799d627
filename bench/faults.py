"""
What a fault costs in time (events.md, "Cases that must hold"): processes are killed, brokers hang.

The processes are those of the Procfile, on a database and a broker of the run's own. ADR 0110.
"""

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg
from celery import Celery

from apps.core import heartbeats
from apps.core.ids import decode_id
from bench import books, children, database, driving, processes
from bench._registry import Figure, benchmark
from bench._rounds import ROUNDS, SECONDS, shortened
from bench.books import Books
from bench.broker import Broker, broker
from bench.driving import Order, drive, warm_up
from bench.receiver import Receiver, receiver
from bench.webhooks import WORKERS
from config.settings._celery import QUEUES, make_celery

_CRASHES: Final = 5
_ACCOUNTS: Final = 100
_PATH: Final = "/prompt"
_AWAY_SECONDS: Final = 60.0
_RATE: Final = 100
# Long after it failed its bound a run is still told by how much.
_SECONDS_MAX: Final = 300
_LOOK_EVERY_SECONDS: Final = 0.05
# Each of a worker's two children stops at its first claim, as all of a pool of threads does.
_DOOMED: Final = ("worker", "worker", "webhooks")

# One row of each, which a worker has leased before it dies: the kinds that need no bank.
_KINDS: Final = {
    "relay": "core_outbox_batch",
    "consume": "core_event_work",
    "send": "webhooks_webhooklane",
    "inbound": "webhooks_inboundevent",
    "jobs": "core_job_run",
}
_RECORDED: Final = """
    SELECT id, recorded_at FROM core_outbox_event WHERE id = ANY(%s) ORDER BY recorded_at
"""
_BEATEN: Final = "SELECT count(*) FROM core_queue_heartbeat WHERE beaten_at > %s"


@benchmark
def after_crash() -> Figure:
    """Seconds until an event arrives whose web process was killed between COMMIT and the nudge."""
    with _world("crash") as world:
        with world.web() as port:
            _post(port, world.books, number=0)
            world.wait_for_arrivals(1)
        for number in range(1, _CRASHES + 1):
            with world.web(KASSA_FAILPOINTS="work.committed=kill") as port:
                _refuse_answer(port, world.books, number=number)
                world.wait_for_arrivals(number + 1)
        taken = world.seconds_to_arrival()[1:]
    return Figure(
        name="after_crash", value=max(taken), unit="s", must=5, lower_is_better=True,
        how=f"slowest of {_CRASHES} transfers whose web process was sent SIGKILL by itself after "
            "COMMIT, from the event's record to its arrival",
        detail={"fastest_s": round(min(taken), 2)},
    )  # fmt: skip


@benchmark
def takeover() -> Figure:
    """Seconds until what killed workers had leased is done by others."""
    with database.scratch("takeover") as name, broker() as running, receiver() as far:
        environment = database.environment(name) | {"REDIS_URL": running.url}
        children.ask(
            "bench._ready", {"make": "due", "url": far.url(_PATH)}, environment=environment
        )
        armed = environment | {"KASSA_FAILPOINTS": "work.claimed=pause"}
        with processes.doomed(*_DOOMED, environment=armed) as kill:
            leased = _wait_for_leases(name)
            kill()
        killed_at = time.monotonic()
        with processes.running(*WORKERS, environment=environment):
            taken = _wait_for_ends(name, leased, since=killed_at)
    return Figure(
        name="takeover", value=max(taken.values()), unit="s", must=60, lower_is_better=True,
        how="slowest of one claim of each kind that needs no bank, from SIGKILL of supervisors, "
            "workers and children, just after the claims, to done; others start then",
        detail={f"{kind}_s": round(seconds, 1) for kind, seconds in taken.items()},
    )  # fmt: skip


@benchmark
def broker_restart() -> Figure:
    """Seconds until every queue is worked and nothing is owed after the broker came back."""
    away = shortened(_AWAY_SECONDS)
    with _world("restart") as world, world.web() as port:
        _post(port, world.books, number=0)
        world.wait_for_arrivals(1)
        world.broker.kill()
        requests = _post_each_second(port, world.books, seconds=away)
        since, began = world.now(), time.monotonic()
        world.broker.start()
        world.wait_for_beats(since=since)
        consuming = time.monotonic() - began
        world.wait_for_arrivals(1 + len(requests))
        delivered = time.monotonic() - began
    return Figure(
        name="broker_restart", value=delivered, unit="s", must=60, lower_is_better=True,
        how=f"the broker killed, away for {away:g} s, and started; from its start until a task of "
            "every queue has run and every event of that time arrived; a transfer a second",
        detail={
            "consuming_s": round(consuming, 2),
            "events": len(requests),
            "slowest_request_ms": round(1000 * max(requests), 1),
        },
    )  # fmt: skip


@benchmark
def dead_broker() -> Figure:
    """The slowest request while the broker takes connections and answers nothing."""
    tenants = [books.plain_books()]
    order = Order(rate=_RATE)
    with broker() as running, driving.web(database.NAME, REDIS_URL=running.url) as port:
        warm_up(port, tenants, order)
        with running.standing_still():
            loads = [drive(port, tenants, order) for _ in range(ROUNDS)]
        running.kill()
        refused = drive(port, tenants, order)
    tries = driving.LOG.read_text().count('"nudge_failed"')
    slowest = max(loads, key=lambda load: load.slowest)
    return Figure(
        name="dead_broker", value=1000 * slowest.slowest, unit="ms slowest", must=700,
        lower_is_better=True,
        how=f"open loop, {_RATE} transfers/s, the broker stopped by SIGSTOP; slowest of {ROUNDS} "
            f"rounds of {SECONDS:g} s",
        detail=slowest.detail
        | {"refused_slowest_ms": round(1000 * refused.slowest, 1), "tries": tries},
    )  # fmt: skip


# --- What is killed, and what is seen of it ---------------------------------------------------


@dataclass(frozen=True, slots=True)
class _World:
    """Workers, their broker, and one organization with an endpoint that wants its entries."""

    name: str
    broker: Broker
    far: Receiver
    books: Books

    def web(self, **more: str) -> AbstractContextManager[int]:
        return driving.web(self.name, REDIS_URL=self.broker.url, **more)

    def wait_for_arrivals(self, count: int) -> None:
        wait_until(lambda: len(self._arrivals()) >= count, what=f"{count} events arrived")
        if len(self._arrivals()) > count:
            msg = f"{count} events were to arrive, and {len(self._arrivals())} did."
            raise RuntimeError(msg)

    def wait_for_beats(self, *, since: datetime) -> None:
        """Send each queue a heartbeat, and return once a worker of each has run one."""
        app = Celery("bench", set_as_current=False)
        made = make_celery(broker_url=self.broker.url, role="command")
        app.config_from_object(
            {name.removeprefix("CELERY_").lower(): value for name, value in made.items()}
        )
        with closing(app):
            for queue in QUEUES:
                app.send_task(heartbeats.TASK, kwargs={"queue": queue}, queue=queue)
        wait_until(
            lambda: _value(self.name, _BEATEN, since) == len(QUEUES),
            what="a task of every queue ran",
        )

    def seconds_to_arrival(self) -> list[float]:
        """Return how long each event took from its record to its arrival, oldest first."""
        arrivals = {decode_id("evt", id_): at for id_, at in self._arrivals().items()}
        with psycopg.connect(database.address(self.name)) as connection:
            rows = connection.execute(_RECORDED, [list(arrivals)]).fetchall()
        return [arrivals[id_] - recorded_at.timestamp() for id_, recorded_at in rows]

    def now(self) -> datetime:
        at: datetime = _value(self.name, "SELECT clock_timestamp()")
        return at

    def _arrivals(self) -> Mapping[str, float]:
        return self.far.arrivals().get(_PATH, {})


@contextmanager
def _world(suffix: str) -> Iterator[_World]:
    with database.scratch(suffix) as name, broker() as running, receiver() as far:
        environment = database.environment(name) | {"REDIS_URL": running.url}
        opened = books.open_books(name, accounts=_ACCOUNTS)
        children.ask(
            "bench._ready",
            {
                "make": "endpoint",
                "organization": str(opened.organization_id),
                "url": far.url(_PATH),
            },
            environment=environment,
        )
        with processes.running(*WORKERS, environment=environment):
            yield _World(name, running, far, opened)


def _post_each_second(port: int, given: Books, *, seconds: float) -> list[float]:
    """Post one transfer after the other, a second apart; return how long each request took."""
    taken: list[float] = []
    ends = time.monotonic() + seconds
    while not taken or time.monotonic() < ends:
        begun = time.monotonic()
        _post(port, given, number=1 + len(taken))
        taken.append(time.monotonic() - begun)
        time.sleep(1)
    return taken


def _post(port: int, given: Books, *, number: int) -> None:
    """
    Post one transfer.

    :raises RuntimeError: for any answer but 201
    """
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        debit, credit = given.printed[:2]
        body = {"debit_account": debit, "credit_account": credit, "amount": 1, "currency": "EUR"}
        headers = {
            "Authorization": f"Bearer {given.token}",
            "Content-Type": "application/json",
            "Idempotency-Key": f"fault-{number}",
        }
        connection.request("POST", "/v1/transfers", json.dumps(body), headers)
        answer = connection.getresponse()
        said = answer.read()
    if answer.status != 201:  # noqa: PLR2004  (created)
        msg = f"Transfer {number} was answered {answer.status}: {said[:600]!r}"
        raise RuntimeError(msg)


def _refuse_answer(port: int, given: Books, *, number: int) -> None:
    """Post a transfer to a process that dies of it before it can answer."""
    try:
        _post(port, given, number=number)
    except (ConnectionError, http.client.HTTPException):
        return
    raise RuntimeError("The web process answered: it did not die between COMMIT and its nudge.")


def _wait_for_leases(name: str) -> dict[str, list[Any]]:
    """Return the rows of each kind that are leased, once there is one of each."""
    leased: dict[str, list[Any]] = {}

    def look() -> bool:
        with psycopg.connect(database.address(name)) as connection:
            for kind, table in _KINDS.items():
                found = connection.execute(f"SELECT id FROM {table} WHERE state = 'leased'")  # noqa: S608
                leased[kind] = [id_ for (id_,) in found]
        return all(leased.values())

    wait_until(look, what="a worker has leased a row of each kind")
    return leased


def _wait_for_ends(name: str, leased: Mapping[str, list[Any]], *, since: float) -> dict[str, float]:
    """Return for each kind when its rows were done, in seconds since then."""
    done: dict[str, float] = {}

    def look() -> bool:
        with psycopg.connect(database.address(name)) as connection:
            for kind, ids in leased.items():
                found = connection.execute(
                    f"SELECT FROM {_KINDS[kind]} WHERE id = ANY(%s) AND state <> 'done'",
                    [ids],
                )
                if found.fetchone() is None:
                    done.setdefault(kind, time.monotonic() - since)
        return len(done) == len(leased)

    wait_until(look, what="what killed workers had leased is done")
    return done


def _value(name: str, query: str, *given: object) -> Any:  # noqa: ANN401  (the query's)
    with psycopg.connect(database.address(name)) as connection:
        row = connection.execute(query, given).fetchone()
    return row[0] if row else None


def wait_until(holds: Callable[[], bool], *, what: str) -> None:
    """
    Return once it holds.

    :raises RuntimeError: if it never does
    """
    deadline = time.monotonic() + _SECONDS_MAX
    while not holds():
        if time.monotonic() > deadline:
            msg = f"Not within {_SECONDS_MAX} s: {what}."
            raise RuntimeError(msg)
        time.sleep(_LOOK_EVERY_SECONDS)
