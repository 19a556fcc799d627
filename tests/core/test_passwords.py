"""A hash costs as much as a hundred requests: it stands back for whoever answers clients."""

import os
import sys
import threading
from pathlib import Path

import pytest

from apps.core import passwords
from apps.core.passwords import PacedArgon2PasswordHasher

# Elsewhere a thread has neither cores nor niceness of its own, and a hash is made as it ever was.
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="Threads have no niceness here.")


def nice_of(thread: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread)


@pytest.fixture
def kept():
    """This thread is kept to one of the cores, as a web process is."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    yield cores
    os.sched_setaffinity(0, cores)


@on_linux
def test_is_made_on_every_core_of_the_server(kept, settings):
    settings.WEB_CORES = frozenset(kept)

    where = passwords._in_turn(lambda: os.sched_getaffinity(0))

    assert where == kept
    # Who asked stays where it was.
    assert os.sched_getaffinity(0) == {min(kept)}


@on_linux
def test_stays_where_it_is_if_the_server_says_nothing(kept, settings):
    settings.WEB_CORES = frozenset()

    assert passwords._in_turn(lambda: os.sched_getaffinity(0)) == {min(kept)}


@on_linux
def test_is_made_by_threads_that_wait_for_others():
    own = nice_of(threading.get_native_id())
    hasher = PacedArgon2PasswordHasher()
    seen: set[int] = set()
    hashing = threading.Thread(
        target=lambda: [hasher.encode("correct horse battery", "0123456789abcdef") for _ in "123"]
    )

    hashing.start()
    while hashing.is_alive():
        for task in Path("/proc/self/task").iterdir():
            try:
                if nice_of(int(task.name)) == own + passwords._NICER_BY:
                    seen.add(int(task.name))
            # It has ended meanwhile.
            except ProcessLookupError:
                continue

    # One for each hash, and those that Argon2 starts for itself.
    assert len(seen) > len("123")
    assert nice_of(threading.get_native_id()) == own


def test_is_djangos_and_a_fault_is_whoevers_asked():
    hasher = PacedArgon2PasswordHasher()
    encoded = hasher.encode("correct horse battery", "0123456789abcdef")

    assert hasher.verify("correct horse battery", encoded)
    assert not hasher.verify("incorrect horse battery", encoded)
    with pytest.raises(ZeroDivisionError):
        passwords._in_turn(lambda: 1 / 0)
    # Its turn is given back.
    assert passwords._in_turn(lambda: 1) == 1
