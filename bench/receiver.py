"""The receiver of webhooks beside a benchmark: `bench._receiver` is the process."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bench import database


@dataclass(frozen=True, slots=True)
class Receiver:
    """One running receiver: its port, and what may be asked of it."""

    process: "subprocess.Popen[str]"
    port: int

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def requests(self) -> Mapping[str, int]:
        """Return how many requests came to each path."""
        found: dict[str, int] = self._ask("seen")["requests"]
        return found

    def hanging(self) -> int:
        """Return how many requests wait for an answer that comes late, or never."""
        return int(self._ask("seen")["hanging"])

    def endless_bytes(self) -> int:
        """Return how much was sent of answers that have no end."""
        return int(self._ask("seen")["endless_bytes"])

    def arrivals(self) -> Mapping[str, Mapping[str, float]]:
        """Return for each path when, in seconds since 1970, each `webhook-id` came first."""
        found: dict[str, dict[str, float]] = self._ask("arrivals")
        return found

    def forget(self) -> None:
        """Begin the notes anew."""
        self._ask("forget")

    def release(self) -> None:
        """Hang up on every request that waits for its answer."""
        self._ask("release")

    def _ask(self, what: str) -> Any:  # noqa: ANN401  (JSON)
        assert self.process.stdin is not None  # noqa: S101  (they were asked for)
        assert self.process.stdout is not None  # noqa: S101
        self.process.stdin.write(f"{what}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("The receiver ended; its fault is above.")
        return json.loads(answer)


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a receiver until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench._receiver"],
        cwd=database.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None  # noqa: S101  (it was asked for)
    try:
        yield Receiver(process, port=int(process.stdout.readline()))
    finally:
        process.terminate()
        process.communicate()
