"""An event as a receiver reads it: one envelope, in the API version its endpoint is pinned to."""

import json
from collections.abc import Mapping
from typing import Any, Final

from apps.core import versions

# Newest first. An older one is made from the next newer, by what its app registered.
VERSIONS: Final = versions.VERSIONS


def in_version(envelope: Mapping[str, Any], *, api_version: str) -> dict[str, Any]:
    """Return an envelope, whose `data` is of the newest version, as a version shows it."""
    version = versions.nearest(api_version)
    data = versions.downgrade(envelope["type"], envelope["data"], version=version)
    return {**envelope, "api_version": version, "data": data}


def render(envelope: Mapping[str, Any], *, api_version: str) -> bytes:
    """Return the bytes that every attempt sends; the envelope's `data` is of the newest version."""
    body = in_version(envelope, api_version=api_version)
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
