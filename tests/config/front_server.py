"""
A server as ours, with a small application where Django would be: `python -m … PORT FILE`.

The application answers in ways that our pages do not, or do only with much before them. It writes
into the file what became of a long answer.
"""

import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from granian.constants import HTTPModes, Interfaces, Loops
from granian.server.mp import MPServer


class Parts:
    """An answer in parts without a declared length, as a long export is; a fault may be in it."""

    def __init__(self, count: int, *, fails: bool) -> None:
        self._parts = iter([b"x" * 100_000] * count)
        self._fails = fails

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        part = next(self._parts, None)
        if part is None and self._fails:
            raise TimeoutError("The application's own fault.")
        if part is None:
            raise StopIteration
        return part

    def close(self) -> None:
        with Path(os.environ["FRONT_SAID"]).open("a") as said:
            said.write("closed\n")


def small_application(environ: dict[str, Any], start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    if path in {"/parts", "/parts-that-fail"}:
        start_response("200 OK", [("Content-Type", "text/csv")])
        return Parts(int(environ["QUERY_STRING"]), fails=path != "/parts")
    if path in {"/stuck", "/admin/login/"}:
        go = Path(os.environ["FRONT_SAID"]).with_name("go")
        until = time.monotonic() + 20
        while not go.exists() and time.monotonic() < until:
            time.sleep(0.01)
    if path == "/nothing":
        start_response("204 No Content", [])
        return []
    if path == "/fault":
        raise RuntimeError("The application's own fault.")
    taken = environ["wsgi.input"].read()
    query = environ["QUERY_STRING"]
    asked = f"{path}{query} {len(taken)} {environ.get('CONTENT_LENGTH', '-')} "
    said = asked + " ".join(
        f"{name}={value}" for name, value in sorted(environ.items()) if name.startswith("HTTP_X")
    )
    body = said.encode("latin-1")
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def make_front() -> Any:
    import django  # noqa: PLC0415  only the server's child has settings

    django.setup()
    from django.conf import settings  # noqa: PLC0415

    from config import bodies, front  # noqa: PLC0415
    from config.express import ExpressLane  # noqa: PLC0415

    settings.API_IN_FLIGHT_MAX, settings.WEB_PROCESSES, settings.OWN_PROXIES = 12, 2, 1
    # A long one has its minute all the same: so long its sender can be seen to wait.
    bodies._SMALL_SECONDS_MAX = 1.0
    bodies.BYTES_MAX = 3 * 2**20
    return front.Front(small_application, ExpressLane(), threads=6, lane_threads=2)


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    os.environ["FRONT_SAID"] = sys.argv[2]
    MPServer(
        "tests.config.front_server:make_front",
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.RSGI,
        loop=Loops.asyncio,
        http=HTTPModes.http1,
        websockets=False,
        workers=1,
        log_access=False,
        factory=True,
    ).serve()
