"""What the launcher needs to know about processes, from the standard library alone."""

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

PROC = Path("/proc")


class ServiceFailed(Exception):
    """A service could not be started or stopped; the message is for whoever typed the command."""


# A server outlives its launcher. Kept here because a Popen that goes while its process runs warns.
left_running: list[subprocess.Popen[bytes]] = []


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock: two starts at once would both find nothing running."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def read_pid(path: Path) -> int | None:
    """Return the number on the file's first line, or None where there is no such file or number."""
    try:
        return int(path.read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def is_server(pid: int | None, *, directory: Path) -> bool:
    """
    Say whether the process lives and is the server of this data directory.

    A number in a pid file is no proof: after a crash or a reboot another process may bear it. Both
    servers change into their data directory, and no other process does.
    """
    if pid is None:
        return False
    if PROC.is_dir():
        return _working_directory(pid) == directory.resolve()
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def list_servers(directory: Path) -> list[int]:
    """Return the processes that work in the directory, whether or not a pid file knows them."""
    if not PROC.is_dir():
        return []
    found = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    return [pid for pid in found if is_server(pid, directory=directory)]


def _working_directory(pid: int) -> Path | None:
    try:
        return (PROC / str(pid) / "cwd").readlink()
    except OSError:
        return None


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Poll the condition until it holds or the time is up; return whether it held."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def stop(
    pid_file: Path, *, directory: Path, gently: signal.Signals, firmly: signal.Signals
) -> bool:
    """End the recorded server and wait for it; return False where none ran."""
    pid = read_pid(pid_file)
    if pid is None or not is_server(pid, directory=directory):
        return False
    for number in (gently, firmly):
        # The server may end between the check and the signal.
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        if wait_until(lambda: not is_server(pid, directory=directory), seconds=30):
            # Where it was started by this very process, it is a zombie until it is asked for.
            left_running[:] = [server for server in left_running if server.poll() is None]
            return True
    raise ServiceFailed(f"Process {pid} in {directory} does not end.")


def read_tail(log: Path, *, lines: int = 12) -> str:
    """Return the end of a log, for a message about a server that did not come up."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"
