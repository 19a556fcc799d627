"""Calls in processes of their own that are killed as they commit: right before, or right after."""

import base64
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Literal

from django.db import connection

from apps.core import statements
from tests.support import running

type Moment = Literal["before", "after"]

_KEEPS = "import django; django.setup(); from tests.ledger import dying; dying.keep()"


class Nursery:
    """A process that makes others: each makes one call, and is killed at its first COMMIT."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def kill_at_commit(self, moment: Moment, call: Callable[[], object]) -> None:
        """Have the call made, which can be pickled; fail where it ended in any other way."""
        line = base64.b64encode(pickle.dumps((moment, call))).decode()
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        said = []
        while not (said and said[-1].startswith("ended ")):
            said.append(self.process.stdout.readline())
            assert said[-1], said
        # A line of the log, as of a cache that is slow to answer, says nothing of how it ended.
        told = [line for line in said if not line.startswith("{")]
        assert told == [f"ended {signal.SIGKILL}\n"], "".join(said)


@contextmanager
def nursery_of_tests() -> Iterator[Nursery]:
    with running("-c", _KEEPS) as process:
        yield Nursery(process)


def keep() -> None:
    """Make a process for each line that comes in, and say how it ended."""
    # Once for all of them: they are copies of this one.
    import_module("config.urls")
    for line in sys.stdin:
        moment, call = pickle.loads(base64.b64decode(line))  # noqa: S301  (of our own making)
        if not (child := os.fork()):
            _make(moment, call)
        _, status = os.waitpid(child, 0)
        print(f"ended {status}", flush=True)  # noqa: T201  (read by the test)


def _make(moment: Moment, call: Callable[[], object]) -> None:
    commit, alone = statements.commit, statements.alone

    def die_alone(statement: str, values: Mapping[str, object], *, commits: bool = False) -> None:
        # What has no COMMIT that this process would send. What commits in Postgres, as a procedure
        # does, is committed once it was sent.
        if moment == "after":
            alone(statement, values, commits=commits)
        elif not statement.lstrip().startswith("CALL"):
            connection.set_autocommit(False)
            statements.run(statement, values)
        os.kill(os.getpid(), signal.SIGKILL)

    def die() -> None:
        if moment == "after":
            commit()
        else:
            # With all that waited to go out with COMMIT: everything is written but that.
            statements.flush()
            # Until Postgres has done it all.
            statements.run("SELECT 1", {})
        os.kill(os.getpid(), signal.SIGKILL)

    statements.commit, statements.alone = die, die_alone
    try:
        print("answered:", call(), flush=True)  # noqa: T201
    except BaseException:  # noqa: BLE001  the test reads it
        traceback.print_exc()
    finally:
        os._exit(1)
