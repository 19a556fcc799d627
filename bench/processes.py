"""Kassa's own processes, as the Procfile names them, on a benchmark's database and broker."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
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
    with _all(names, environment) as started:
        yield
        for each in started:
            each.refuse_ended()


@contextmanager
def doomed(*names: str, environment: Mapping[str, str]) -> Iterator[Callable[[], None]]:
    """Run these processes, one name as often as it comes; what is yielded kills them all."""
    with _all(names, environment) as started:

        def kill() -> None:
            for each in started:
                each.refuse_ended()
            for each in started:
                kill_group(each.process)

        yield kill


@dataclass(frozen=True, slots=True)
class _Process:
    """One process of the Procfile, leader of a group with its children."""

    name: str
    log: Path
    process: "subprocess.Popen[bytes]"

    def refuse_ended(self) -> None:
        if (status := self.process.poll()) is not None:
            msg = f"The {self.name} process ended by itself ({status}); its log is {self.log}."
            raise RuntimeError(msg)


@contextmanager
def _all(names: Sequence[str], environment: Mapping[str, str]) -> Iterator[list[_Process]]:
    with ExitStack() as stack:
        yield [
            stack.enter_context(_running(name, environment, turn=names[:place].count(name)))
            for place, name in enumerate(names)
        ]


@contextmanager
def _running(name: str, environment: Mapping[str, str], *, turn: int) -> Iterator[_Process]:
    path = database.ROOT / "var" / f"bench-{name}{turn or ''}.log"
    with path.open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", f"exec env {command(name)}"],
            cwd=database.ROOT,
            env={**environment, "PATH": search_path()},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield _Process(name, path, process)
        finally:
            end(process)


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a leader and its group; what is not finished is in its row, and nobody waits for it."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_END_SECONDS_MAX)
    # The group: also the children of a pool whose parent is gone.
    kill_group(process)


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """End it and its children at once, with no chance to tidy up."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
