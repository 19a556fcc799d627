"""Kassa's own processes, as the Procfile names them, on a benchmark's database and broker."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from bench import database

_END_SECONDS_MAX: Final = 20


def command(process: str) -> str:
    """Return the shell command of one process of the Procfile."""
    for line in (database.ROOT / "Procfile").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == process:
            return rest.strip()
    msg = f"The Procfile names no {process} process."
    raise RuntimeError(msg)


def search_path() -> str:
    """Return the PATH on which the commands of the Procfile find our programs first."""
    programs = Path(sys.executable).parent
    return f"{programs}{os.pathsep}{os.environ.get('PATH', '')}"


@contextmanager
def running(*names: str, environment: Mapping[str, str]) -> Iterator[None]:
    """
    Run these processes until the block ends.

    :raises RuntimeError: if one of them ended by itself
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="kassa-bench-"))
        for name in names:
            stack.enter_context(_running(name, environment, folder))
        yield


@contextmanager
def _running(name: str, environment: Mapping[str, str], folder: str) -> Iterator[None]:
    # Beat remembers in a file; the Procfile's is that of `make run`, and of two the last counts.
    rest = f" -s {folder}/beat" if name == "beat" else ""
    path = database.ROOT / "var" / f"bench-{name}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", f"exec env {command(name)}{rest}"],
            cwd=database.ROOT,
            env={**environment, "PATH": search_path()},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
            ended = process.poll()
        finally:
            _end(process)
    if ended is not None:
        msg = f"The {name} process ended by itself ({ended}); its log is {path}."
        raise RuntimeError(msg)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the process; whatever it has not finished is in its row, and nobody waits for it."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_END_SECONDS_MAX)
    # The group: also the children of a pool whose parent is gone.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
