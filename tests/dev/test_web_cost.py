"""The measure of a request's processor time still walks the way that a request goes."""

import subprocess
import sys

from tests.support import ROOT

ONCE = "from dev import web_cost; web_cost.ROUNDS = 1; web_cost.main()"


def test_measures_each_way():
    done = subprocess.run(
        [sys.executable, "-c", ONCE], cwd=ROOT, capture_output=True, text=True, check=True
    )

    ways = [line[:8].strip() for line in done.stdout.splitlines()]
    assert ways == ["lane, 32", "lane, 1", "django"]
