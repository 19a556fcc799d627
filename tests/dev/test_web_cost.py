"""The measure of a request's processor time still walks the way that a request goes."""

import subprocess
import sys

from tests.support import ROOT

ONCE = "from dev import web_cost; web_cost.ROUNDS = web_cost.REQUESTS = 1; web_cost.main()"


def test_measures_both_ways():
    done = subprocess.run(
        [sys.executable, "-c", ONCE], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert [line.split()[0] for line in done.stdout.splitlines()] == ["lane", "django"]
