"""Where webhooks may go is read as a process starts: a slip in it stops that, and says where."""

import os
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.settings import _webhooks


class TestNetworks:
    def test_are_taken_as_they_are(self):
        given = ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]

        assert _webhooks.read_networks("X", given) == given

    @pytest.mark.parametrize("text", ["10.0.0.1/8", "10.0.0.0/33", "ten", " 10.0.0.0/8", "::1/0"])
    def test_that_are_none_are_named_with_their_setting(self, text):
        with pytest.raises(ImproperlyConfigured) as caught:
            _webhooks.read_networks("WEBHOOK_DENY_NETWORKS", ["192.0.2.0/24", text])

        assert f"WEBHOOK_DENY_NETWORKS has {text!r}" in str(caught.value)


class TestPorts:
    def test_are_numbers(self):
        assert _webhooks.read_ports("X", ["443", "8443"]) == [443, 8443]

    @pytest.mark.parametrize("text", ["0", "65536", "-1", "https", "4 43", "²"])
    def test_that_are_none_are_named_with_their_setting(self, text):
        with pytest.raises(ImproperlyConfigured) as caught:
            _webhooks.read_ports("WEBHOOK_PORTS", ["443", text])

        assert f"WEBHOOK_PORTS has {text!r}" in str(caught.value)


class TestProxy:
    @pytest.mark.parametrize(
        "text", ["", "none", "10.20.0.4:3128", "egress.example:1", "[fd00::1]:1"]
    )
    def test_is_host_and_port_or_none(self, text):
        assert _webhooks.read_proxy("X", text) == text

    @pytest.mark.parametrize("text", ["egress", "http://egress:3128", ":1", "egress:0", "a:70000"])
    def test_that_is_none_is_named_with_its_setting(self, text):
        with pytest.raises(ImproperlyConfigured) as caught:
            _webhooks.read_proxy("WEBHOOK_EGRESS_PROXY", text)

        assert f"WEBHOOK_EGRESS_PROXY is {text!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("WEBHOOK_DENY_NETWORKS", "192.0.2.0/24,10.0.0.1/8"),
        ("WEBHOOK_ALLOW_NETWORKS", "10.0.0.1/8"),
        ("WEBHOOK_PORTS", "443,https"),
        ("WEBHOOK_EGRESS_PROXY", "egress"),
    ],
)
@pytest.mark.parametrize("module", ["base", "local"])
def test_a_process_does_not_start_with_them(module, name, text):
    started = subprocess.run(
        [sys.executable, "-c", f"import config.settings.{module}"],
        env=os.environ | {name: text},
        capture_output=True,
        text=True,
        check=False,
    )

    assert started.returncode == 1
    last = started.stderr.strip().splitlines()[-1]
    assert name in last
    assert repr(text.rpartition(",")[2]) in last
