"""python -m bench [name …]: run benchmarks, print the table, keep the results."""

import json
import os
import platform
import signal
import sys
import sysconfig
import time
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import database
from bench._registry import BENCHMARKS, Figure
from bench._rounds import IS_KEPT

RESULTS = Path(__file__).resolve().parent / "results"


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; return the exit status."""
    # Told to end, a run ends what it started and drops what it made, as after a fault.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    _prepare()
    from bench import (  # noqa: PLC0415  (they register themselves, and need Django)
        faults,  # noqa: F401
        files,  # noqa: F401
        hordak,  # noqa: F401
        inbound,  # noqa: F401
        ledger_engine,  # noqa: F401
        ledger_flat,  # noqa: F401
        ledger_http,  # noqa: F401
        outbox,  # noqa: F401
        purging,  # noqa: F401
        signatures,  # noqa: F401
        tpcb,
        webhooks,  # noqa: F401
    )

    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"bench: no {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}.")
        return 2
    console = Console(stderr=True)
    figures: list[Figure] = []
    for name in names or list(BENCHMARKS):
        console.print(f"[dim]{name}: {_first_line(BENCHMARKS[name].__doc__)}[/dim]")
        database.make_log_files()
        with database.new_log_files_told():
            measured = BENCHMARKS[name]()
        figures += [measured] if isinstance(measured, Figure) else measured
    if tpcb.was_measured():
        console.print("[dim]tpcb, once more[/dim]")
        database.make_log_files()
        reference = tpcb.after()
        figures = [reference, *(figure.beside_tpcb(reference.value) for figure in figures)]
    _print(figures)
    if IS_KEPT:
        _keep(figures)
    return 0


def _first_line(doc: str | None) -> str:
    return (doc or "").strip().partition("\n")[0]


def _prepare() -> None:
    database.refuse_unsafe_settings()
    database.remake(database.NAME)
    os.environ.update(database.environment())
    # No pool: a benchmark's threads each hold one connection, as a server's do.
    os.environ.setdefault("KASSA_ROLE", "command")
    database.migrate(database.NAME)
    import django  # noqa: PLC0415  (only now does the environment name the database)

    django.setup()


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB, {platform.system()} "
        f"{platform.machine()}, {_interpreter()}, {database.server_settings()}"
    )


def _processor() -> str:
    """Return the processor's name, where the kernel tells it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unnamed"


def _interpreter() -> str:
    """Say which Python it is, and how it was built: half of some figures is its own speed."""
    options = sysconfig.get_config_var("CONFIG_ARGS") or ""
    built = "with" if "--enable-optimizations" in options else "without"
    return f"Python {platform.python_version()} built {built} profiles"


def _print(figures: list[Figure]) -> None:
    table = Table(title=f"Kassa, {_now():%Y-%m-%d}, durable settings", caption=_machine())
    for column, justify in (
        ("benchmark", "left"), ("value", "right"), ("unit", "left"), ("reference", "right"),
        ("against", "left"), ("ratio", "right"), ("must", "right"), ("aim", "right"),
        ("reached", "left"),
    ):  # fmt: skip
        table.add_column(column, no_wrap=True, justify=justify)  # type: ignore[arg-type]  # one of rich's words
    for figure in figures:
        table.add_row(
            figure.name,
            f"{figure.value:,.1f}",
            figure.unit,
            "" if figure.reference is None else f"{figure.reference:,.1f}",
            figure.against,
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            "" if figure.must is None else f"{figure.must:g}",
            "" if figure.aim is None else f"{figure.aim:g}",
            figure.verdict,
        )
    # Also where no terminal says how wide it is.
    Console(width=max(Console().width, 130)).print(table)


def _keep(figures: list[Figure]) -> None:
    """Write the results, those of benchmarks that were not run staying as they were."""
    path = RESULTS / "latest.json"
    kept = {row["name"]: row for row in json.loads(path.read_text())} if path.exists() else {}
    when, machine = f"{_now():%Y-%m-%dT%H:%MZ}", _machine()
    for figure in figures:
        kept[figure.name] = figure.as_row() | {"measured_at": when, "machine": machine}
    path.write_text(json.dumps(list(kept.values()), indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main([name for argument in sys.argv[1:] for name in argument.split(",") if name]))
