"""The client's side of the API, as any integrator would write it."""

import time
from collections.abc import Callable
from typing import Any, Final

import httpx

WAIT_SECONDS_MAX: Final = 60.0


class StepFailed(Exception):
    """A step of the story did not go as it has to."""


class Api:
    """Speaks for one organisation. Every answer that is not the expected one ends the story."""

    def __init__(self, base_url: str, token: str) -> None:
        self._http = httpx.Client(
            base_url=base_url, headers={"Authorization": f"Bearer {token}"}, timeout=30
        )

    def close(self) -> None:
        """Give the connection back; nothing is asked afterwards."""
        self._http.close()

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        return self._read(self._http.get(path, params=query), 200)

    def post(
        self, path: str, body: dict[str, Any] | None = None, *, key: str, expect: int = 201
    ) -> dict[str, Any]:
        answer = self._http.post(path, json=body or {}, headers={"Idempotency-Key": key})
        return self._read(answer, expect)

    def upload(self, path: str, *, name: str, content: bytes, key: str) -> dict[str, Any]:
        answer = self._http.post(
            path,
            files={"file": (name, content, "application/xml")},
            headers={"Idempotency-Key": key},
        )
        return self._read(answer, 200, 201, 202)

    def _read(self, answer: httpx.Response, *expected: int) -> dict[str, Any]:
        if answer.status_code not in expected:
            msg = f"{answer.request.method} {answer.request.url.path}: {answer.status_code} "
            raise StepFailed(msg + answer.text[:600])
        body: dict[str, Any] = answer.json()
        return body


def until[T](look: Callable[[], T | None], what: str, seconds: float = WAIT_SECONDS_MAX) -> T:
    """Look again until there is something, and return it."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            msg = f"Waited {seconds:.0f} s in vain for: {what}"
            raise StepFailed(msg)
        time.sleep(0.2)
