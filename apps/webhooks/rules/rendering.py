"""An event as a receiver reads it: one envelope, in the API version its endpoint is pinned to."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

# Newest first. An older one is made from the next newer by the functions below.
VERSIONS: Final[tuple[str, ...]] = ("2026-11-01",)

type Downgrade = Callable[[dict[str, Any]], dict[str, Any]]

# (type, version) -> what turns the data of the next newer version into this version's.
DOWNGRADES: Final[Mapping[tuple[str, str], Downgrade]] = {}


def render(envelope: Mapping[str, Any], *, api_version: str) -> bytes:
    """Return the bytes that every attempt sends; the envelope's `data` is of the newest version."""
    data = envelope["data"]
    for version in VERSIONS[1:]:
        if version < api_version:
            break
        step = DOWNGRADES.get((envelope["type"], version))
        data = step(data) if step else data
    body = {**envelope, "api_version": api_version, "data": data}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
