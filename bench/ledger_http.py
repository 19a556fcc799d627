"""
Transfers over HTTP (ledger.md, section 8), through all of the path.

API key, limits, idempotency row, journal entry, postings, balances, event row, triggers: nothing is
switched off. Server and load driver share the machine with the database.
"""

from functools import partial
from typing import Final

from bench import engine, seeded, tpcb
from bench._registry import TPCB, Figure, benchmark
from bench._rounds import HOW, ROUNDS, medians, middle
from bench.books import Books, plain_books
from bench.database import NAME
from bench.driving import Load, Order, drive, warm_up, web

SINGLE: Final = Order()
HOT: Final = Order(hot=True)
BY_SIZE: Final = Order(by_size=True)
BATCHES: Final = Order(path="/v1/transfers/batch", batch=engine.BATCH, clients=4)
_OPEN_CONNECTIONS: Final = 256


def _rounds(port: int, tenants: list[Books], order: Order) -> Load:
    """Warm up, measure, and return the median round."""
    warm_up(port, tenants, order)
    loads = [drive(port, tenants, order) for _ in range(ROUNDS)]
    return middle(loads, key=lambda load: load.per_second)


@benchmark
def ledger_http_single() -> Figure:
    """64 clients, POST /v1/transfers: API key, idempotency key, event row."""
    tpcb.before()
    with web(NAME) as port:
        load = _rounds(port, [plain_books()], SINGLE)
    return Figure(
        name="ledger_http_single", value=load.per_second, unit="transfers/s", against=TPCB,
        must=0.45, aim=0.75, how=f"64 clients; {HOW}", detail=load.detail,
    )  # fmt: skip


@benchmark
def ledger_http_hot() -> Figure:
    """The same, every transfer into one account; the reference is single, measured in turns."""
    tenants = [plain_books()]
    with web(NAME) as port:
        warm_up(port, tenants, SINGLE)
        warm_up(port, tenants, HOT)
        single, hot = medians(
            lambda: drive(port, tenants, SINGLE).per_second,
            lambda: drive(port, tenants, HOT).per_second,
        )
    return Figure(
        name="ledger_http_hot", value=hot, unit="transfers/s", against="ledger_http_single",
        reference=single, must=0.9, aim=1.0, how=f"64 clients, in turns with single; {HOW}",
    )  # fmt: skip


@benchmark
def ledger_http_tenants() -> list[Figure]:
    """
    The same over 200 organisations, one of which holds nine tenths of the rows present.

    Each in turn, so that hardly two requests at once are of one organisation and share a
    transaction; and as the rows are spread, nine of ten requests being the large one's.
    """
    tpcb.before()
    with seeded.copy_of(seeded.TENANTS) as name, web(name) as port:
        tenants = seeded.books(name)
        in_turn = _rounds(port, tenants, SINGLE)
        by_size = _rounds(port, tenants, BY_SIZE)
    return [
        Figure(
            name="ledger_http_tenants", value=in_turn.per_second, unit="transfers/s", against=TPCB,
            must=0.25, aim=0.6, detail=in_turn.detail,
            how=f"64 clients, {seeded.TENANTS.about}, a key each, in turn; {HOW}",
        ),
        Figure(
            name="ledger_http_tenants_by_size", value=by_size.per_second, unit="transfers/s",
            against=TPCB, detail=by_size.detail,
            how=f"64 clients, {seeded.TENANTS.about} and of the requests; {HOW}",
        ),
    ]  # fmt: skip


@benchmark
def ledger_http_bulk() -> Figure:
    """POST /v1/transfers/batch by 8,000; the reference is ledger_engine_bulk, in turns."""
    books = plain_books()
    with web(NAME) as port:
        warm_up(port, [books], BATCHES)
        bulk, over_http = medians(
            partial(engine.bulk_per_second, NAME, books, writers=2),
            lambda: engine.BATCH * drive(port, [books], BATCHES).per_second,
        )
    return Figure(
        name="ledger_http_bulk", value=over_http, unit="transfers/s", against="ledger_engine_bulk",
        reference=bulk, must=0.7, aim=0.9,
        how=f"4 clients, two on each half of the accounts, in turns with the engine; {HOW}",
    )  # fmt: skip


@benchmark
def ledger_latency() -> Figure:
    """
    p99 of one transfer at half the saturated rate of this run, open loop, in milliseconds.

    Beside it stands what pgbench has at half of its own.
    """
    tpcb.before()
    tenants = [plain_books()]
    with web(NAME) as port:
        saturated = _rounds(port, tenants, SINGLE).per_second
        order = Order(rate=saturated / 2, clients=_OPEN_CONNECTIONS)
        load = _rounds_of_latency(port, tenants, order)
    beside = 1000 * tpcb.p99_at_half_rate()
    return Figure(
        name="ledger_latency", value=1000 * load.p99, unit="ms p99", must=25, aim=10,
        lower_is_better=True,
        how=f"open loop at {saturated / 2:,.0f}/s over {_OPEN_CONNECTIONS} connections"
        f" (pgbench at half its own rate: {beside:.1f} ms); {HOW}",
        detail=load.detail
        | {
            "p999_ms": round(1000 * load.p999, 2),
            "saturated": saturated,
            "tpcb_p99_ms": round(beside, 2),
        },
    )  # fmt: skip


def _rounds_of_latency(port: int, tenants: list[Books], order: Order) -> Load:
    warm_up(port, tenants, order)
    return middle([drive(port, tenants, order) for _ in range(ROUNDS)], key=lambda load: load.p99)
