"""The HTTP server's processes: where they run, whom they let go first, what kills them."""

import contextlib
import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config.server import STEADY_SECONDS, give_way
from tests.config.test_server import answers, serving
from tests.support import free_port, running, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def alone() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run one process, which is fewer than there are cores."""
    with serving(processes=1) as started:
        yield started


@pytest.fixture(scope="module")
def steady() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run two processes, on two cores, that have lived for long enough to be taken for sound."""
    with contextlib.ExitStack() as stack:
        with on_cores(2):
            process, port = stack.enter_context(serving(processes=2))
        wait_until(lambda: len(workers(process)) == 2, seconds=60)
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since > STEADY_SECONDS)
        yield process, port


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="One core is everybody's.")
class TestCores:
    def test_of_as_many_as_there_are_processes_each_has_its_own(self, steady):
        process, _ = steady

        cores = [cores_of(worker) for worker in workers(process)]

        assert sorted(map(len, cores)) == [1, 1]
        assert len(set.union(*cores)) == 2
        # And it knows what they all have, for what need not stay there.
        told = "KASSA_CORES=" + ",".join(str(core) for core in sorted(set.union(*cores)))
        for worker in workers(process):
            assert told in Path(f"/proc/{worker}/environ").read_text().split("\0")

    def test_of_one_that_died_are_those_of_who_replaces_it(self, steady):
        process, port = steady
        victim = min(workers(process))
        before, killed = cores_of(victim), workers(process)

        os.kill(victim, signal.SIGKILL)
        heir = wait_for_new(process, killed)
        wait_until(lambda: answers(port), seconds=60)

        assert cores_of(heir) == before

    def test_are_the_systems_to_share_out_where_there_are_more(self, alone):
        process, _ = alone

        assert [cores_of(worker) for worker in workers(process)] == [os.sched_getaffinity(0)]


class TestGiveWay:
    def test_every_thread_of_each_process_does(self, steady):
        process, _ = steady

        # One that has just been replaced has no thread but its first.
        wait_until(lambda: all(len(threads_of(worker)) > 1 for worker in workers(process)))

        policies = [map(os.sched_getscheduler, threads_of(worker)) for worker in workers(process)]
        assert [set(of_one) for of_one in policies] == [{os.SCHED_BATCH}] * 2

    def test_who_was_given_another_policy_keeps_it(self):
        def begin() -> int:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            give_way()
            return os.sched_getscheduler(0)

        # On a thread that ends with it.
        with ThreadPoolExecutor(1) as apart:
            assert apart.submit(begin).result() == os.SCHED_IDLE

    @pytest.mark.parametrize("call", ["sched_getscheduler", "sched_setscheduler"])
    @pytest.mark.parametrize("number", [errno.EPERM, errno.EINVAL, errno.ENOSYS])
    def test_where_the_system_has_none_or_forbids_it_the_server_starts(
        self, monkeypatch, call, number
    ):
        """A container's policy answers EPERM or ENOSYS, gVisor EINVAL, musl ENOSYS."""
        asked = []

        def refuse(*values: object) -> None:
            asked.append(values)
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "sched_getscheduler", lambda _: os.SCHED_OTHER)
        monkeypatch.setattr(os, call, refuse)

        give_way()

        assert len(asked) == 1


# As if each process took longer to find out that it cannot start than one has to live to be sound.
STEADY_AT_ONCE = """
import multiprocessing
from config import server

server.STEADY_SECONDS = 0
multiprocessing.set_start_method("spawn")
server.make_server().serve()
"""


class TestDeaths:
    def test_of_one_process_twice_take_no_other_along(self, steady):
        process, port = steady
        healthy, victim = sorted(workers(process))

        for _ in range(3):
            killed = workers(process)
            os.kill(victim, signal.SIGKILL)
            victim = wait_for_new(process, killed)
        wait_until(lambda: answers(port), seconds=60)

        assert workers(process) == {healthy, victim}

    def test_of_all_twice_are_got_over(self, steady):
        process, port = steady

        for _ in range(2):
            killed = workers(process)
            for worker in killed:
                os.kill(worker, signal.SIGKILL)
            wait_for_new(process, killed)
        wait_until(lambda: answers(port), seconds=60)

        process.terminate()
        assert process.wait(timeout=60) == 0

    def test_of_a_release_that_cannot_start_end_it_however_late_it_finds_out(self):
        with running(
            "-c", STEADY_AT_ONCE,
            KASSA_ROLE="web", KASSA_BIND=f"127.0.0.1:{free_port()}", WEB_CONCURRENCY="2",
            DJANGO_SETTINGS_MODULE="config.settings.missing",
        ) as process:  # fmt: skip
            assert process.wait(timeout=60) == 1


@contextlib.contextmanager
def on_cores(number: int) -> Iterator[None]:
    """Start what is started on so many of the cores that there are."""
    all_of_them = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_of_them)[:number])
    try:
        yield
    finally:
        os.sched_setaffinity(0, all_of_them)


def cores_of(process: int) -> set[int]:
    """Return the cores that the threads of a process may be on."""
    return set.union(*map(os.sched_getaffinity, threads_of(process)))


def threads_of(process: int) -> list[int]:
    return [int(thread.name) for thread in Path(f"/proc/{process}/task").iterdir()]


def wait_for_new(server: subprocess.Popen[str], before: set[int]) -> int:
    """Return a process of this server that was not there before."""
    wait_until(lambda: bool(workers(server) - before), seconds=60)
    return min(workers(server) - before)


def workers(server: subprocess.Popen[str]) -> set[int]:
    """Return the processes that answer requests for this server now."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return {int(child) for child in children if b"spawn_main" in _command(child)}


def _command(process: str) -> bytes:
    # A killed one that nobody has waited for has no command any more.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes()
    return b""
