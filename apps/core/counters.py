"""
Counters: how often something happened, and how long it took, in any process of this machine, since
anybody counts.

Each process has a file of its own, mapped into its memory, so counting is a store and waits for
nothing: no server, no disk, no other process. What a process has counted is there after its end,
and whoever finds its file without an owner goes on from there: sums never fall (ADR 0102).
"""

import fcntl
import math
import mmap
import os
import re
import struct
import threading
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from django.conf import settings

log = structlog.get_logger(__name__)

_VALUE: Final = struct.Struct("<d")
_KEY_BYTES: Final = 184
_RECORD_BYTES: Final = _VALUE.size + _KEY_BYTES
_RECORDS_MAX: Final = 2048
_FILE_BYTES: Final = _RECORD_BYTES * _RECORDS_MAX
_FILES_MAX: Final = 1000
# The last label of a series of a histogram.
_BOUND: Final = re.compile(r'[,{]le="([^"]+)"}$')

_declared: dict[str, "Counter | Histogram"] = {}


@dataclass(frozen=True)
class Counter:
    """
    One counter. Its labels have few values, all of them ours: no organization, nothing of a person.

    Made once, in the module that counts.
    """

    name: str
    told: str
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        _declared[self.name] = self

    def add(self, amount: int = 1, **labels: str) -> None:
        """Count; never raises for what is the machine's, and nothing waits for it."""
        values = {name: labels[name] for name in self.labels}
        _store.add(sample_name(self.name, values), amount)


@dataclass(frozen=True)
class Histogram:
    """
    How long something took, by the bounds in seconds that each of them kept to; labels as of a
    counter. It is several series, of which one without an upper bound has them all.
    """

    name: str
    told: str
    labels: tuple[str, ...]
    bounds: tuple[float, ...]

    def __post_init__(self) -> None:
        _declared[self.name] = self

    def observe(self, seconds: float, *, times: int = 1, **labels: str) -> None:
        """Count `times` of them that took so long each; never raises, as a counter."""
        values = {name: labels[name] for name in self.labels}
        for bound in (*self.bounds, math.inf):
            if seconds <= bound:
                _store.add(sample_name(f"{self.name}_bucket", values | {"le": _text(bound)}), times)
        _store.add(sample_name(f"{self.name}_sum", values), seconds * times)
        _store.add(sample_name(f"{self.name}_count", values), times)


def _text(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else f"{bound:g}"


def declared() -> list[Counter | Histogram]:
    """Return every counter and histogram of the modules that are loaded, by name."""
    return [_declared[name] for name in sorted(_declared)]


def sample_name(name: str, labels: Mapping[str, str]) -> str:
    """Return the name of one series as Prometheus writes it."""
    inner = ",".join(f'{label}="{_escape(value)}"' for label, value in labels.items())
    return f"{name}{{{inner}}}" if inner else name


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def read() -> dict[str, float]:
    """Return what all processes of this machine have counted, by the name of the series."""
    sums: defaultdict[str, float] = defaultdict(float)
    if settings.KASSA_METRICS_DIR:
        for path in Path(settings.KASSA_METRICS_DIR).glob("*.counters"):
            content = path.read_bytes()
            for key, place in _places(content).items():
                sums[key] += _value(content, place)
    return dict(sorted(sums.items(), key=_order))


def _order(item: tuple[str, float]) -> tuple[str, float]:
    """Have the series of a histogram in the order of their bounds, as Prometheus asks."""
    series = item[0]
    bounded = _BOUND.search(series)
    return (series[: bounded.start()], float(bounded[1])) if bounded else (series, 0.0)


def _places(content: bytes | mmap.mmap) -> dict[str, int]:
    """Return where in a file each series stands; those that are there have no gap between them."""
    found = {}
    for place in range(0, len(content), _RECORD_BYTES):
        key = bytes(content[place + _VALUE.size : place + _RECORD_BYTES]).rstrip(b"\0")
        if key[:1] in {b"", b"\0"}:
            break
        found[key.decode()] = place
    return found


def _value(content: bytes | mmap.mmap, place: int) -> float:
    value: float = _VALUE.unpack_from(content, place)[0]
    return value


class _Store:
    """This process's file, taken with the first thing that is counted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_open = False
        self._file: int | None = None
        self._memory: mmap.mmap | None = None
        self._places: dict[str, int] = {}

    def add(self, key: str, amount: float) -> None:
        with self._lock:
            if not self._is_open:
                self._is_open = True
                self._open()
            if self._memory is None:
                return
            place = self._places.get(key)
            if place is None:
                place = self._append(key)
            if place is not None:
                _VALUE.pack_into(self._memory, place, _value(self._memory, place) + amount)

    def _append(self, key: str) -> int | None:
        place, text = len(self._places) * _RECORD_BYTES, key.encode()
        if self._memory is None or place >= _FILE_BYTES or len(text) > _KEY_BYTES:
            log.error("counter_not_kept", series=key)
            return None
        begin = place + _VALUE.size
        self._memory[begin : begin + _KEY_BYTES] = b"\0" + text[1:].ljust(_KEY_BYTES - 1, b"\0")
        # The first letter last: until then whoever reads sees no series here, and no half of one.
        self._memory[begin : begin + 1] = text[:1]
        self._places[key] = place
        return place

    def _open(self) -> None:
        if not settings.KASSA_METRICS_DIR:
            return
        folder = Path(settings.KASSA_METRICS_DIR)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = _take_file(folder)
            # Room on the disk is taken now: a store into a hole of a full disk ends the process.
            os.posix_fallocate(self._file, 0, _FILE_BYTES)
            self._memory = mmap.mmap(self._file, _FILE_BYTES)
            self._places = _places(self._memory)
        except OSError as fault:
            log.warning("counters_not_kept", fault=type(fault).__name__)

    def abandon(self) -> None:
        """In a child: leave the file to the parent, whose it stays for as long as it lives."""
        if self._memory is not None:
            self._memory.close()
        if self._file is not None:
            os.close(self._file)


def _take_file(folder: Path) -> int:
    """Open the first file that no living process has; the lock goes with its process."""
    for number in range(_FILES_MAX):
        file = os.open(folder / f"{number}.counters", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
        else:
            return file
    raise FileExistsError(folder)


_store = _Store()


def _begin_anew() -> None:
    global _store  # noqa: PLW0603  (a child of a fork has a file of its own)
    _store.abandon()
    _store = _Store()


os.register_at_fork(after_in_child=_begin_anew)
