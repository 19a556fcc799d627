"""
The schema of test databases, made once.

Django builds every test database by running each migration, and on a schema of this size that
takes each process of pytest some seconds, a copy one. A database with the migrations applied is
kept under a name made of their contents, and test databases are copies of it. They still are
checked against the migrations, which then find nothing to do.
"""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from dev._process import locked

ROOT = Path(__file__).resolve().parent.parent
PREFIX = "kassa_template_"
KEPT_MAX = 6

# What a migration's effect depends on, beside the versions of what is installed.
SOURCES = (
    "apps/*/migrations/*.py",
    "apps/*/sql/*.sql",
    "apps/core/changes.py",
    "apps/core/ids.py",
    "apps/core/constraints.py",
    "apps/core/triggers.py",
    "requirements/base.txt",
)


def ensure_template(cursor: Any) -> str:
    """Return the name of the database to copy, made now where it is not there yet."""
    digest = sha256()
    for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    name = PREFIX + digest.hexdigest()[:12]
    # Test processes start together, and the first makes it for all.
    with locked(ROOT / "var" / "template.lock"):
        known = _list_templates(cursor)
        if name not in known:
            for old in known[: max(0, len(known) + 1 - KEPT_MAX)]:
                cursor.execute(f'DROP DATABASE IF EXISTS "{old}" WITH (FORCE)')
            _make_template(cursor, name)
    return name


def _list_templates(cursor: Any) -> list[str]:
    cursor.execute(
        r"SELECT datname FROM pg_database WHERE datname LIKE %s ORDER BY oid", [f"{PREFIX}%"]
    )
    return [row[0] for row in cursor.fetchall() if not row[0].endswith("_making")]


def _make_template(cursor: Any, name: str) -> None:
    making = f"{name}_making"
    cursor.execute(f'DROP DATABASE IF EXISTS "{making}" WITH (FORCE)')
    cursor.execute(f'CREATE DATABASE "{making}"')
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings.test",
        "KASSA_IN_TEST": "1",
        "KASSA_TEST_DB_NAME": making,
    }
    subprocess.run(
        [sys.executable, "manage.py", "migrate", "--verbosity", "0"],
        cwd=ROOT,
        env=environment,
        check=True,
    )
    cursor.execute(f'ALTER DATABASE "{making}" RENAME TO "{name}"')
