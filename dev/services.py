"""
The database and the broker for a developer's machine: `python -m dev.services start`.

A service whose address is given (DATABASE_URL, REDIS_URL) is left to whoever gave it. The others
come from their wheels and live below var/, where a second start finds them again. ADR 0001.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from dev import _process, postgres, valkey

VAR = Path(__file__).resolve().parent.parent / "var"

SERVICES: Mapping[str, tuple[ModuleType, str]] = {
    "postgres": (postgres, "DATABASE_URL"),
    "valkey": (valkey, "REDIS_URL"),
}

type Record = dict[str, dict[str, str]]


def start(var: Path = VAR) -> Record:
    """Start what is not running and has no address given; return where each of them answers."""
    var.mkdir(exist_ok=True)
    with _process.locked(var / "services.lock"):
        record = read_record(var)
        for name, (service, variable) in SERVICES.items():
            if not os.environ.get(variable):
                record[name] = service.start(var.resolve(), record.get(name, {}))
                _write_record(var, record)
    return record


def stop(var: Path = VAR) -> list[str]:
    """Stop what runs; return the names of what did."""
    if not var.is_dir():
        return []
    with _process.locked(var / "services.lock"):
        record = read_record(var)
        return [
            name for name, (service, _) in SERVICES.items() if service.stop(record.get(name, {}))
        ]


def reset(var: Path = VAR) -> None:
    """Stop what runs and remove its data for good; the next start begins from nothing."""
    stop(var)
    for name, recorded in read_record(var).items():
        SERVICES[name][0].remove(recorded)
    (var / "services.json").unlink(missing_ok=True)


def read_record(var: Path = VAR) -> Record:
    """Return what the last start wrote down, or nothing."""
    try:
        record: Record = json.loads((var / "services.json").read_text())
    except (OSError, ValueError):
        return {}
    return record


def _write_record(var: Path, record: Record) -> None:
    # Readers take no lock, so the file is replaced whole. It holds a password.
    making = var / "services.json.making"
    making.touch(mode=0o600)
    making.write_text(json.dumps(record, indent=2) + "\n")
    making.replace(var / "services.json")


def _print_status(var: Path = VAR) -> int:
    record, absent = read_record(var), 0
    for name, (service, variable) in SERVICES.items():
        pid = service.find_pid(record.get(name, {}))
        if os.environ.get(variable):
            print(f"{name:10} given by {variable}")
        elif pid is None:
            print(f"{name:10} not running")
            absent = 1
        else:
            print(f"{name:10} running, process {pid}, data in {record[name]['data']}")
    return absent


def _print_environment(var: Path = VAR) -> int:
    record = read_record(var)
    for name, (_, variable) in SERVICES.items():
        url = os.environ.get(variable) or record.get(name, {}).get("url")
        if url is None:
            print(f"{name} was never started: make services", file=sys.stderr)
            return 1
        print(f"export {variable}={shlex.quote(url)}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command of the launcher; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dev.services", description=__doc__)
    parser.add_argument("command", choices=("start", "stop", "status", "env", "reset"))
    command = parser.parse_args(arguments).command
    try:
        if command == "env":
            return _print_environment()
        if command == "start":
            start()
        elif command == "reset":
            reset()
            print("Stopped, and the data removed.")
            return 0
        elif command == "stop":
            print("Stopped: " + (", ".join(stop()) or "nothing ran"))
            return 0
        return _print_status()
    except _process.ServiceFailed as failure:
        print(f"dev.services: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
