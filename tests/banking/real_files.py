"""The real bank files, which lie beside the repository and are no part of it."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2].parent / "shared" / "data" / "bank-files"

needs_real_files = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the real bank files (../shared/data/bank-files) are not here"
)


def real_file(name):
    return (FOLDER / name).read_bytes()
