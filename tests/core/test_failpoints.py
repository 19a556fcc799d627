"""Failpoints: named in one place, off unless asked for, and as final as a crash."""

import signal
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from apps.core import failpoints
from apps.core.failpoints import Failpoint
from tests.support import ROOT, running, wait_until

REACHES = """
import django
django.setup()
from apps.core import failpoints
for number in range(3):
    print("came by", number, flush=True)
    failpoints.reach(failpoints.Failpoint.JOBS_RAN)
print("ended", flush=True)
"""


@pytest.fixture(autouse=True)
def _disarmed():
    yield
    failpoints.arm("")


class TestReach:
    def test_does_nothing_unless_armed(self):
        for place in Failpoint:
            failpoints.reach(place)

    def test_kills_its_own_process(self):
        with running("-c", REACHES, KASSA_FAILPOINTS="jobs.ran=kill") as process:
            said = process.stdout.read()

            assert process.wait(30) == -signal.SIGKILL
        assert said == f"came by 0\nfailpoint jobs.ran: kill {process.pid}\n"

    def test_lets_the_first_times_pass(self):
        with running("-c", REACHES, KASSA_FAILPOINTS="jobs.ran=kill@3") as process:
            said = process.stdout.read()

            assert process.wait(30) == -signal.SIGKILL
        assert said.count("came by") == 3

    def test_stands_still_until_it_is_told_to_go_on(self):
        with running("-c", REACHES, KASSA_FAILPOINTS="jobs.ran=pause") as process:
            wait_until(lambda: _state_of(process.pid) == "T")
            process.send_signal(signal.SIGCONT)
            said = process.stdout.read()

            assert process.wait(30) == 0
        assert said.endswith("came by 1\ncame by 2\nended\n")

    def test_leaves_other_places_alone(self):
        with running("-c", REACHES, KASSA_FAILPOINTS="work.claimed=kill") as process:
            assert process.stdout.read().endswith("ended\n")
            assert process.wait(30) == 0


class TestArm:
    @pytest.mark.parametrize(
        "text", ["jobs.run=kill", "jobs.ran", "jobs.ran=burn", "jobs.ran=kill@", "jobs.ran=kill@0"]
    )
    def test_refuses_what_there_is_not(self, text):
        with pytest.raises(ImproperlyConfigured, match="KASSA_FAILPOINTS"):
            failpoints.arm(text)


def test_every_place_stands_in_the_code_once():
    sources = [
        path.read_text()
        for path in (ROOT / "apps").rglob("*.py")
        if path != Path(failpoints.__file__)
    ]

    found = {
        place: sum(text.count(f"Failpoint.{place.name}") for text in sources) for place in Failpoint
    }

    assert set(found.values()) == {1}, found


def _state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
