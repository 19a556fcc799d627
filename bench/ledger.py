"""The ledger's first figures (ledger.md, section 8), through the full feature path."""

import json
import secrets
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from django.db import connection

from apps.accounts import operations as accounts
from apps.core import clock, transactions
from apps.core.actors import Actor
from apps.core.ids import encode_id, new_ids
from apps.ledger import operations as ledger
from apps.ledger import rules
from apps.ledger.operations import AccountSpec, TransferRequest
from bench import database, tpcb
from bench._registry import Figure, benchmark

ROUNDS = 3
SECONDS = 8.0
BULK = 8_000
ACCOUNTS = 10_000
BANK = 10**15
ACTOR = Actor.job("bench")


@dataclass(frozen=True, slots=True)
class Books:
    """An organisation whose accounts hold more than a run can move, and its API key."""

    organization_id: UUID
    accounts: list[UUID]
    token: str


@cache
def books() -> Books:
    """Make the organisation by the operations themselves, once a run."""
    now = clock.now()
    organization = accounts.create_organization(name="Bench", time_zone="UTC", actor=ACTOR, now=now)
    person = accounts.create_staff(
        email="bench@kassa.test", name="Bench", password=secrets.token_urlsafe(24),
        role_names=[], organization_ids=[], sees_all_organizations=True, actor=ACTOR, now=now,
    )  # fmt: skip
    key = accounts.create_api_key(
        organization_id=organization.id, name="bench", scopes=["transfers:write"],
        issued_by=person.id, actor=ACTOR, now=now,
    )  # fmt: skip
    opened = _open(organization.id)
    return Books(organization.id, opened, key.token)


@transactions.outermost
def _open(organization_id: UUID) -> list[UUID]:
    now = clock.now()
    specs = [
        AccountSpec(f"wallets:w_{n}:EUR", "liability", "EUR", 0, internal=False)
        for n in range(ACCOUNTS)
    ]
    bank = AccountSpec("bank:bench:EUR", "asset", "EUR")
    opened = ledger.open_accounts(organization_id=organization_id, accounts=[*specs, bank], now=now)
    funded = [opened[spec.code] for spec in specs]
    ledger.post(
        organization_id=organization_id,
        commands=[
            rules.transfer(
                id_=id_,
                debit_account_id=opened[bank.code],
                credit_account_id=account,
                amount_minor=BANK // ACCOUNTS,
                currency="EUR",
                kind="funding",
            )
            for id_, account in zip(new_ids(len(funded)), funded, strict=True)
        ],
        actor=ACTOR,
        now=now,
    )
    return funded


def _median(measure: Callable[[], float]) -> float:
    measure()  # warm-up
    return statistics.median(measure() for _ in range(ROUNDS))


def _figure(name: str, value: float, unit: str, must: float | None, aim: float | None) -> Figure:
    reference = tpcb.transactions_per_second()
    ratio = value / reference
    return Figure(name, value, unit, reference, ratio, must, aim, rounds=ROUNDS)


def _transfer(place: int) -> TransferRequest:
    listed = books().accounts
    return TransferRequest(
        debit_account_id=listed[place % ACCOUNTS],
        credit_account_id=listed[(place * 31 + 1) % ACCOUNTS]
        if (place * 31 + 1 - place) % ACCOUNTS
        else listed[(place + 1) % ACCOUNTS],
        amount_minor=1,
        currency="EUR",
    )


@benchmark
def ledger_engine_single() -> Figure:
    """One transfer per call from 16 threads of one process, each with its key and event."""
    books()

    def measure() -> float:
        stop = time.perf_counter() + SECONDS
        counts = [0] * 16

        def run(place: int) -> None:
            while time.perf_counter() < stop:
                number = counts[place] * 16 + place
                ledger.post_transfer(
                    organization_id=books().organization_id,
                    transfer=_transfer(number),
                    idempotency_key=f"e-{stop}-{place}-{counts[place]}",
                    actor=ACTOR,
                    now=clock.now(),
                )
                counts[place] += 1
            connection.close()

        threads = [threading.Thread(target=run, args=(place,)) for place in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / SECONDS

    return _figure("ledger_engine_single", _median(measure), "transfers/s", None, None)


@benchmark
def ledger_engine_bulk() -> Figure:
    """Batches of 8,000 transfers over 10,000 accounts, one process."""
    books()

    def measure() -> float:
        started = time.perf_counter()
        for turn in range(4):
            ledger.post_transfers(
                organization_id=books().organization_id,
                transfers=[_transfer(turn * BULK + n) for n in range(BULK)],
                mode="atomic",
                idempotency_key=f"b-{started}-{turn}",
                actor=ACTOR,
                now=clock.now(),
            )
        return 4 * BULK / (time.perf_counter() - started)

    return _figure("ledger_engine_bulk", _median(measure), "transfers/s", 6, 12)


@contextmanager
def _web() -> Iterator[int]:
    """Run the web server as it is run in production, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (database.ROOT / "var" / "bench-web.log").open("wb")
    server = subprocess.Popen(
        [sys.executable, "-m", "config.server"],
        cwd=database.ROOT,
        env=database.environment() | {"KASSA_BIND": f"127.0.0.1:{port}", "KASSA_ROLE": "web"},
        stdout=log,
    )
    try:
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        server.terminate()
        server.wait()
        log.close()


def _drive(port: int, **order: object) -> dict[str, float]:
    listed = [encode_id("la", id_) for id_ in books().accounts]
    asked = {
        "port": port, "accounts": listed, "token": books().token, "clients": 64,
        "seconds": SECONDS, "label": f"{time.time_ns()}", "path": "/v1/transfers", "batch": 0,
        "hot": False, **order,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "bench.http_load"],
        input=json.dumps(asked),
        cwd=database.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    measured: dict[str, float] = json.loads(done.stdout)
    if set(measured["statuses"]) != {"201"}:  # type: ignore[arg-type]  # a dict of counts
        msg = f"Not every answer was 201: {measured['statuses']}"
        raise RuntimeError(msg)
    return measured


@benchmark
def ledger_http_single() -> Figure:
    """64 clients, POST /v1/transfers: API key, idempotency key, event row."""
    with _web() as port:
        value = _median(lambda: _drive(port)["per_second"])
    return _figure("ledger_http_single", value, "transfers/s", 0.45, 0.75)


@benchmark
def ledger_http_hot() -> Figure:
    """The same, every transfer into one account; the reference is ledger_http_single."""
    with _web() as port:
        single = _median(lambda: _drive(port)["per_second"])
        value = _median(lambda: _drive(port, hot=True)["per_second"])
    return Figure(
        "ledger_http_hot", value, "transfers/s", single, value / single, 0.9, 1.0, rounds=ROUNDS
    )


@benchmark
def ledger_http_bulk() -> Figure:
    """POST /v1/transfers/batch by 1,000, 4 clients; the reference is ledger_engine_bulk."""
    engine = ledger_engine_bulk().value
    with _web() as port:
        value = 1000 * _median(
            lambda: _drive(port, path="/v1/transfers/batch", batch=1000, clients=4)["per_second"]
        )
    return Figure(
        "ledger_http_bulk", value, "transfers/s", engine, value / engine, 0.7, 0.9, rounds=ROUNDS
    )


@benchmark
def ledger_latency() -> Figure:
    """p99 of one transfer over HTTP with 8 clients, well below saturation, in milliseconds."""
    with _web() as port:
        value = _median(lambda: 1000 * _drive(port, clients=8)["p99"])
    return Figure(
        "ledger_latency", value, "ms p99", None, None, 25, 10, rounds=ROUNDS, lower_is_better=True
    )
