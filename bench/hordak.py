"""
Kassa over HTTP against django-hordak in process, on the same server.

Hordak's transfer is a row and two legs, with its balance triggers; no HTTP, API key, idempotency,
event, floor or lock. Its connections are kept, and its processes are as many as suit it best.
"""

import os
import subprocess
import sys
from functools import cache
from typing import Final

from bench import children, database
from bench._registry import Figure, benchmark
from bench._rounds import HOW, SECONDS, WARM_UP_SECONDS, medians
from bench.books import ACCOUNTS, plain_books
from bench.driving import Order, drive, warm_up, web

PROCESSES: Final = 8


@benchmark
def ledger_vs_hordak() -> Figure:
    """ledger_http_single against django-hordak's Account.transfer_to in 8 processes, in turns."""
    tenants, order = [plain_books()], Order()
    _make_hordak()
    with web(database.NAME) as port:
        warm_up(port, tenants, order)
        hordak, ours = medians(_hordak_per_second, lambda: drive(port, tenants, order).per_second)
    return Figure(
        name="ledger_vs_hordak", value=ours, unit="transfers/s", against="django-hordak",
        reference=hordak, must=2, aim=3.5,
        how=f"{PROCESSES} processes of hordak, in turns with single over HTTP; {HOW}",
    )  # fmt: skip


@cache
def _make_hordak() -> None:
    database.remake(database.HORDAK_NAME)
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
        cwd=database.ROOT,
        env=_environment(),
        check=True,
    )
    children.ask("bench._hordak", {"open": ACCOUNTS}, environment=_environment())


def _hordak_per_second() -> float:
    orders = [
        {"open": 0, "place": place, "seconds": SECONDS, "warm_up": WARM_UP_SECONDS}
        for place in range(PROCESSES)
    ]
    answers = children.together("bench._hordak", orders, environment=_environment())
    return float(sum(answer["per_second"] for answer in answers))


def _environment() -> dict[str, str]:
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "bench.hordak_settings",
        "DATABASE_URL": database.url(database.HORDAK_NAME),
    }
