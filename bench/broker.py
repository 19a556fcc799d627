"""A broker of a benchmark's own: it can be stopped, and no other workers read from it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dev import valkey


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
