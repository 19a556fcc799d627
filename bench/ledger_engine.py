"""The posting engine in process (ledger.md, section 8): no HTTP, but keys, events and triggers."""

import threading
import time
from functools import partial

from django.db import connection

from apps.core import clock
from apps.core.actors import Actor
from apps.ledger import operations as ledger
from apps.ledger.operations import TransferRequest
from bench import engine, tpcb
from bench._registry import TPCB, Figure, benchmark
from bench._rounds import HOW, SECONDS, WARM_UP_SECONDS, median, medians
from bench.books import ACCOUNTS, Books, plain_books
from bench.database import NAME

_THREADS = 16


@benchmark
def ledger_engine_single() -> Figure:
    """One transfer per call from 16 threads of one process, each with its key and event."""
    tpcb.before()
    books = plain_books()
    _singles_per_second(books, WARM_UP_SECONDS)
    value = median(partial(_singles_per_second, books, SECONDS))
    return Figure(
        name="ledger_engine_single", value=value, unit="transfers/s", against=TPCB,
        how=f"{_THREADS} threads; {HOW}",
    )  # fmt: skip


def _singles_per_second(books: Books, seconds: float) -> float:
    label, stop = time.time_ns(), time.perf_counter() + seconds
    counts = [0] * _THREADS

    def run(place: int) -> None:
        while time.perf_counter() < stop:
            ledger.post_transfer(
                organization_id=books.organization_id,
                transfer=_transfer(books, counts[place] * _THREADS + place),
                idempotency_key=f"{label}-{place}-{counts[place]}",
                actor=Actor.job("bench"),
                now=clock.now(),
            )
            counts[place] += 1
        connection.close()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def _transfer(books: Books, number: int) -> TransferRequest:
    place = number * 7919 % ACCOUNTS
    return TransferRequest(
        debit_account_id=books.accounts[place],
        credit_account_id=books.accounts[(place + ACCOUNTS // 2) % ACCOUNTS],
        amount_minor=1,
        currency="EUR",
    )


@benchmark
def ledger_engine_bulk() -> list[Figure]:
    """
    Batches of 8,000 over 10,000 accounts: two writer processes, each with its half of the accounts.

    Two, since TPC-B too uses both cores; `ledger_engine_bulk_1` is one writer, in the same rounds.
    """
    tpcb.before()
    books = plain_books()
    two, one = medians(
        partial(engine.bulk_per_second, NAME, books, writers=2),
        partial(engine.bulk_per_second, NAME, books, writers=1),
    )
    return [
        Figure(
            name="ledger_engine_bulk", value=two, unit="transfers/s", against=TPCB, must=6, aim=12,
            how=f"batches of {engine.BATCH:,}, two writers; {HOW}",
        ),
        Figure(
            name="ledger_engine_bulk_1", value=one, unit="transfers/s", against=TPCB,
            how=f"batches of {engine.BATCH:,}, one writer; {HOW}",
        ),
    ]  # fmt: skip
