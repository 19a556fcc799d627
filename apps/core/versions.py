"""
The versions of the API: events are written in the newest, and older shapes are made from it.

A change that is more than an addition has a date. Whoever was pinned before it goes on with the
shape they know: one function per event type and step makes the older data from the newer.
"""

import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any, Final

from apps.core.errors import InvariantBroken
from apps.core.events import Event, public_type

NEWEST: Final = "2026-11-01"

type Data = dict[str, Any]
type Downgrade = Callable[[Data], Data]

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_versions: list[str] = [NEWEST]
_downgrades: dict[tuple[str, str], Downgrade] = {}

# Newest first; it grows with each older version that an app goes on writing.
VERSIONS: Final[Sequence[str]] = _versions


def register_downgrade(kind: type[Event], *, version: str, step: Downgrade) -> None:
    """
    Go on writing an event in an older version; call from `AppConfig.ready()`.

    `step` gets a copy of the data in the next newer version and returns it in this one.

    :raises InvariantBroken: if the version is no date before the newest, or has its step already
    """
    type_ = public_type(kind.name)
    if not _DATE.fullmatch(version) or version >= NEWEST or (type_, version) in _downgrades:
        msg = f"{type_} cannot be given a downgrade to {version!r}."
        raise InvariantBroken(msg)
    _downgrades[type_, version] = step
    if version not in _versions:
        _versions.append(version)
        _versions.sort(reverse=True)


def count_steps(type_: str) -> int:
    """Return how many older shapes of an event there are."""
    return sum(known == type_ for known, _ in _downgrades)


def nearest(version: str) -> str:
    """Return the version to write for who is pinned to this one: the oldest that is not older."""
    return min((each for each in VERSIONS if each >= version), default=NEWEST)


def downgrade(type_: str, data: Data, *, version: str) -> Data:
    """Return an event's data, which is of the newest version, as it is in an older one."""
    for each in VERSIONS[1:]:
        if each < version:
            break
        step = _downgrades.get((type_, each))
        data = step(deepcopy(data)) if step else data
    return data
