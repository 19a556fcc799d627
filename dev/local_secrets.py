"""Secrets of one machine's own: made once, kept below var/, never the same on two machines."""

import json
import os
import secrets
from base64 import b64encode
from pathlib import Path


def ensure_local_secrets(var: Path) -> dict[str, str]:
    """Return this checkout's secrets, made on first use; `key_file` is the path of the key ring."""
    var.mkdir(exist_ok=True)
    key_file, file = var / "key-ring.json", var / "secrets.json"
    key = b64encode(secrets.token_bytes(32)).decode()
    _write_once(key_file, {"current": "local1", "keys": {"local1": key}})
    _write_once(
        file,
        {"secret_key": secrets.token_urlsafe(64), "pepper": secrets.token_urlsafe(48)},
    )
    made: dict[str, str] = json.loads(file.read_text())
    return made | {"key_file": str(key_file)}


def _write_once(path: Path, content: dict[str, object]) -> None:
    # Several processes start at once: each writes its own, the first to link wins, all read that.
    if path.exists():
        return
    making = path.with_name(f"{path.name}.{os.getpid()}")
    making.touch(mode=0o600)
    making.write_text(json.dumps(content, indent=2) + "\n")
    try:
        path.hardlink_to(making)
    except FileExistsError:
        pass
    finally:
        making.unlink()
