"""`make run`: everything from nothing to a page that answers, in one terminal."""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from dev import services
from dev._process import ServiceFailed

ROOT = Path(__file__).resolve().parent.parent
# The sandbox bank, and whoever answers Prometheus, listen so far above the page.
SANDBOX_PORT_STEP = 10
EXPORTER_PORT_STEP = 20
READY_SECONDS_MAX = 60
ENDED_BY_CTRL_C = 130


def main() -> int:
    """Prepare, start the Procfile, and greet once the page answers; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dev.run", description=__doc__)
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    try:
        _refuse_busy_ports(port)
        services.start()
    except ServiceFailed as failure:
        print(f"kassa: {failure}", file=sys.stderr)
        return 1
    environment = _make_environment(port)
    prepared = subprocess.run(
        [sys.executable, "-m", "dev.prepare", "--base-url", _base_url(port)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if prepared.returncode:
        print(f"kassa: the database is not ready.\n{prepared.stdout}", file=sys.stderr)
        return 1
    return _run_processes(environment, port, demo=prepared.stdout)


def _refuse_busy_ports(port: int) -> None:
    for number in (port, port + SANDBOX_PORT_STEP, port + EXPORTER_PORT_STEP):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                raise ServiceFailed(f"Port {number} is in use: make run PORT=<another>.") from None


def _make_environment(port: int) -> dict[str, str]:
    programs = Path(sys.executable).parent
    return os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', '')}",
        "DJANGO_SETTINGS_MODULE": os.environ.get("DJANGO_SETTINGS_MODULE", "config.settings.local"),
        "KASSA_BIND": f"127.0.0.1:{port}",
        "EXPORTER_PORT": str(port + EXPORTER_PORT_STEP),
        "SANDBOX_PORT": str(port + SANDBOX_PORT_STEP),
        "SANDBOX_URL": f"http://127.0.0.1:{port + SANDBOX_PORT_STEP}",
        "PYTHONUNBUFFERED": "1",
    }


def _base_url(port: int) -> str:
    return f"http://localhost:{port}"


def _run_processes(environment: dict[str, str], port: int, *, demo: str) -> int:
    honcho = shutil.which("honcho", path=environment["PATH"])
    if honcho is None:
        print("kassa: honcho is not installed: make install", file=sys.stderr)
        return 1
    processes = subprocess.Popen([honcho, "start"], cwd=ROOT, env=environment)
    threading.Thread(target=_greet, args=(processes, port, demo), daemon=True).start()
    # Ctrl-C reaches the whole terminal group; honcho ends its processes, and this waits for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: processes.terminate())
    status = processes.wait()
    # Ctrl-C is how it is meant to end.
    return 0 if status == ENDED_BY_CTRL_C else status


def _greet(processes: subprocess.Popen[bytes], port: int, demo: str) -> None:
    deadline = time.monotonic() + READY_SECONDS_MAX
    while not _is_ready(port):
        if processes.poll() is not None or time.monotonic() > deadline:
            return
        time.sleep(0.1)
    lines = [
        "",
        "Kassa is up.",
        f"  back office  {_base_url(port)}/admin/",
        f"  API          {_base_url(port)}/v1/",
        f"  health       {_base_url(port)}/readyz",
        f"  metrics      http://127.0.0.1:{port + EXPORTER_PORT_STEP}/metrics",
        f"  sandbox bank http://localhost:{port + SANDBOX_PORT_STEP}/",
        "",
        demo.strip(),
        "",
        "Ctrl-C ends Kassa. Postgres and Valkey stay up for the next start; `make stop` ends them.",
        "",
    ]
    print("\n".join(lines), flush=True)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)  # noqa: PLR2004  HTTP's number
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(ENDED_BY_CTRL_C)
