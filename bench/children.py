"""
Parts of a benchmark that run in processes of their own: `bench._child` is the other end.

A process of Django has one database, and a run has several; and writers that are to use both cores
must not share an interpreter.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from bench import database


def ask(module: str, order: Mapping[str, object], *, environment: dict[str, str]) -> Any:  # noqa: ANN401  (JSON)
    """Have one process carry out the order, and return its answer."""
    [answer] = together(module, [order], environment=environment)
    return answer


def together(
    module: str, orders: Sequence[Mapping[str, object]], *, environment: dict[str, str]
) -> list[Any]:
    """Have a process for each order prepare itself, let all begin at once; return their answers."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "bench._child", module],
            cwd=database.ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in orders
    ]
    try:
        for process, order in zip(processes, orders, strict=True):
            _tell(process, json.dumps(order))
        for process in processes:
            _expect(process)
        for process in processes:
            _tell(process, "go")
        answers = [json.loads(_expect(process)) for process in processes]
    finally:
        for process in processes:
            # One that has answered has nothing left to do; the others are of a failed run.
            process.terminate()
            process.communicate()
    return answers


def _tell(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None  # noqa: S101  (it was asked for)
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _expect(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None  # noqa: S101  (it was asked for)
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("A part of the benchmark ended before it answered; its fault is above.")
    return line
