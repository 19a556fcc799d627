"""A broker of a benchmark's own: it can be stopped, and no other workers read from it."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dev import valkey

_LOOK_EVERY_SECONDS: Final = 0.02


@dataclass(slots=True)
class Broker:
    """One Valkey with a folder of its own."""

    folder: Path
    record: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.record["url"]

    def start(self) -> None:
        """Start it, at the address it had before if it ran already."""
        before = self.record
        self.record = valkey.start(self.folder, before)
        if before and self.url != before["url"]:
            raise RuntimeError("The broker's port was taken while it was away.")

    def stop(self) -> None:
        """Stop it; what it held is on disk, as on a server that is started again."""
        valkey.stop(self.record)

    def kill(self) -> None:
        """End it at once, with no chance to tidy up."""
        self._signal(signal.SIGKILL)
        while valkey.find_pid(self.record) is not None:
            time.sleep(_LOOK_EVERY_SECONDS)

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Have it take connections and answer nothing, until the block ends."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        pid = valkey.find_pid(self.record)
        if pid is None:
            raise RuntimeError("The broker does not run.")
        os.kill(pid, number)


@contextmanager
def broker() -> Iterator[Broker]:
    """Run a broker until the block ends."""
    with tempfile.TemporaryDirectory(prefix="kassa-bench-") as folder:
        running = Broker(Path(folder))
        running.start()
        try:
            yield running
        finally:
            running.stop()
