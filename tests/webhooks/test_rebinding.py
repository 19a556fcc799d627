"""Names that lead elsewhere each time they are asked for, by a real resolver and name server."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.support import ROOT

APART = ["unshare", "--map-root-user", "--mount", "--net"]


@pytest.fixture(scope="module")
def told():
    """What `rebinding.py` says of its attempts, made in namespaces of its own."""
    try:
        subprocess.run([*APART, "true"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no namespaces of one's own here (unshare)")
    ended = subprocess.run(
        [*APART, sys.executable, "-m", "tests.webhooks.rebinding"],
        check=True,
        capture_output=True,
        timeout=60,
        cwd=ROOT,
    )
    return json.loads(ended.stdout)


def test_one_that_turns_inwards_after_the_save_is_refused_and_gets_no_byte(told):
    assert told["rebind.example"] == {
        "outcome": "blocked_address",
        "address": "127.0.0.1",
        "asked": 2,
    }
    assert told["connections_at_home"] == 0


@pytest.mark.parametrize("name", ["mixed.example", "alias.example", "six.example"])
def test_one_with_an_inner_address_beside_or_behind_it_is_refused(told, name):
    assert told[name]["outcome"] == "blocked_address"
    assert told[name]["asked"] == 1


def test_one_that_passed_is_asked_for_once_and_the_checked_address_is_contacted(told):
    assert told["once.example"] == {
        "outcome": "succeeded",
        "address": "127.0.0.2",
        "asked": 1,
        "received": 1,
    }
    assert told["connections_at_home"] == 0
