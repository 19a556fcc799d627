"""The rules of the egress proxy, asked of a real Squid: it lets through what the guard does."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from ipaddress import ip_address, ip_network
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from apps.webhooks.rules import targets
from apps.webhooks.rules.targets import Policy
from tests.support import ROOT, wait_until

pytestmark = pytest.mark.allow_hosts(["127.0.0.1", "127.0.0.2"])

CONFIG = ROOT / "deploy" / "egress" / "squid.conf"
WORKERS = "10.20.0.0/24"
DENIED = [*targets._DENIED_V4, *targets._DENIED_V6]
EDGES = sorted({edge for network in DENIED for edge in (network[0], network[-1])}, key=str)
# What is outside of 2000::/3, a name, and an IPv4 address in the dress of the other family.
OTHERS = [
    *("::", "::1", "::7f00:1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:7f00:1"),
    *("100::1", "1fff::1", "64:ff9b::7f00:1", "64:ff9b:1::1", "4000::1", "5f00::1", "fc00::1"),
    *("fe80::1", "fec0::1", "ff02::1"),
]
PUBLIC = ["93.184.216.34", "1.1.1.1", "172.15.255.255", "172.32.0.1", "223.255.255.255"]
PUBLIC_V6 = ["2606:4700::1111"]
# All of them public; one is made of hexadecimal digits alone, as an address is.
NAMES = {"receiver.example": PUBLIC[0], "cafe.de": PUBLIC[0], "cafe6.example": PUBLIC_V6[0]}
# Added, so that nothing leaves this machine: no way leads from its loopback to where it may go.
HERE = """
tcp_outgoing_address 127.0.0.1
tcp_outgoing_address ::1
pid_filename none
access_log none
cache_log /dev/null
visible_hostname egress
pinger_enable off
"""


def network_words(name):
    lines = re.findall(rf"^acl {name} dst (.+)$", CONFIG.read_text(), re.MULTILINE)
    return [ip_network(word) for line in lines for word in line.split()]


class TestConfiguration:
    def test_denies_all_that_the_guard_does(self):
        inner = network_words("inner")

        for network in DENIED:
            assert any(
                network.version == wider.version and network.subnet_of(wider) for wider in inner
            ), network

    def test_denies_nothing_that_the_guard_lets_through(self):
        for network in network_words("inner"):
            assert not targets.is_allowed(str(network[0]), policy=Policy()), network
            assert not targets.is_allowed(str(network[-1]), policy=Policy()), network


class Squid:
    """Squid with the deployment's own file, on the loopback, and this source as its workers."""

    def __init__(self, folder, *, workers, without=""):
        program = shutil.which("squid", path=f"{os.environ['PATH']}:/usr/sbin")
        if program is None:
            pytest.skip("no squid here (apt-get install squid): its rules were not tried")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        rules = CONFIG.read_text()
        assert without in rules
        rules = rules.replace(without, "") if without else rules
        assert rules.count("http_port 3128\n") == rules.count(WORKERS) == 1
        rules = rules.replace("http_port 3128\n", f"http_port 127.0.0.1:{self.port}\n")
        path = folder / "squid.conf"
        # Squid reads it as a user who may not look into our folders.
        self.hosts = NamedTemporaryFile("w")  # noqa: SIM115  (closed by `end`)
        Path(self.hosts.name).chmod(0o644)
        self.hosts.writelines(f"{address} {name}\n" for name, address in NAMES.items())
        self.hosts.flush()
        rules = rules.replace(WORKERS, workers) + HERE
        path.write_text(f"{rules}hosts_file {self.hosts.name}\n")
        self.process = subprocess.Popen(
            [program, "-N", "-f", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self.is_there)

    def is_there(self):
        assert self.process.poll() is None, "Squid did not start with this file."
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def end(self):
        self.process.kill()
        self.process.wait()
        self.hosts.close()

    def asked(self, line):
        """Return the status of its answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as near:
            near.sendall(f"{line} HTTP/1.1\r\nHost: there\r\n\r\n".encode("ascii"))
            return int(near.recv(1000).split(b" ")[1])

    def connects(self, address, *, port=443):
        """Say whether it would connect; from here it cannot, and says so by 503."""
        there = f"[{address}]" if ip_address(address).version == 6 else address
        status = self.asked(f"CONNECT {there}:{port}")
        assert status in {403, 503}, f"{there}: {status}"
        return status == 503


@pytest.fixture(scope="module")
def squid(tmp_path_factory):
    one = Squid(tmp_path_factory.mktemp("squid"), workers="127.0.0.1/32")
    yield one
    one.end()


class TestSquid:
    @pytest.mark.parametrize("address", [*PUBLIC, *PUBLIC_V6])
    def test_connects_to_public_addresses(self, squid, address):
        assert targets.is_allowed(address, policy=Policy())
        assert squid.connects(address)

    @pytest.mark.parametrize("address", [*map(str, EDGES), *OTHERS])
    def test_connects_to_no_inner_address(self, squid, address):
        assert not targets.is_allowed(address, policy=Policy())
        assert not squid.connects(address)

    def test_connects_to_no_name_of_this_machine(self, squid):
        assert squid.asked("CONNECT localhost:443") == 403

    @pytest.mark.parametrize("name", NAMES)
    def test_connects_to_no_name_whatever_it_resolves_to(self, squid, name):
        assert squid.asked(f"CONNECT {name}:443") == 403

    def test_would_connect_to_names_without_that_rule(self, tmp_path):
        other = Squid(tmp_path, workers="127.0.0.1/32", without="http_access deny !literal\n")
        try:
            assert [other.asked(f"CONNECT {name}:443") for name in NAMES] == [503] * len(NAMES)
        finally:
            other.end()

    @pytest.mark.parametrize("port", [22, 80, 3128, 8443])
    def test_connects_to_no_other_port(self, squid, port):
        assert not squid.connects(PUBLIC[0], port=port)

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_does_nothing_but_connect(self, squid, method):
        assert squid.asked(f"{method} http://{PUBLIC[0]}:443/") == 403

    def test_serves_nobody_but_the_workers(self, tmp_path):
        others = Squid(tmp_path, workers="127.0.0.2/32")
        try:
            assert not others.connects(PUBLIC[0])
        finally:
            others.end()
