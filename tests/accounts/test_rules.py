"""The form of an API key, decided over values."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.accounts import rules

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
any_token = st.builds(
    rules.make_token,
    mode=st.sampled_from(["live", "test"]),
    key_id_entropy=st.binary(min_size=8, max_size=8),
    secret_entropy=st.binary(min_size=32, max_size=32),
)


class TestToken:
    @given(any_token)
    def test_is_read_back_as_it_was_printed(self, token):
        printed = rules.print_token(token)

        assert rules.parse_token(printed) == token
        assert len(printed) == len("kassa_live_") + 12 + 1 + 43 + 6

    @given(any_token, st.data())
    def test_one_wrong_character_is_told_without_asking_anybody(self, token, data):
        printed = rules.print_token(token)
        place = data.draw(st.integers(0, len(printed) - 1))
        other = data.draw(st.characters(codec="ascii").filter(lambda c: c != printed[place]))

        assert rules.parse_token(printed[:place] + other + printed[place + 1 :]) is None

    @pytest.mark.parametrize("text", ["", "kassa_live_", "kassa_live_" + "0" * 62, "Bearer x"])
    def test_what_is_no_token_is_none(self, text):
        assert rules.parse_token(text) is None

    @given(any_token)
    def test_the_same_digits_of_the_other_mode_are_none(self, token):
        printed = rules.print_token(token)
        swapped = {"live": "test", "test": "live"}[token.mode]

        assert rules.parse_token(printed.replace(f"kassa_{token.mode}", f"kassa_{swapped}")) is None

    @given(any_token)
    def test_its_repr_keeps_the_secret(self, token):
        assert token.secret not in repr(token)


class TestSecret:
    def test_is_right_under_any_pepper_that_still_verifies(self):
        stored = rules.digest_secret("s", pepper="old")

        assert rules.is_secret("s", stored=stored, peppers=["new", "old"])
        assert not rules.is_secret("s", stored=stored, peppers=["new"])
        assert not rules.is_secret("t", stored=stored, peppers=["new", "old"])

    def test_is_never_right_where_nothing_is_stored(self):
        assert not rules.is_secret("s", stored=None, peppers=["p"])

    def test_costs_as_many_digests_for_an_unknown_key_as_for_a_known_one(self, monkeypatch):
        counted = []
        digest = rules.digest_secret
        monkeypatch.setattr(
            rules,
            "digest_secret",
            lambda secret, pepper: counted.append(1) or digest(secret, pepper=pepper),
        )

        for stored in (digest("s", pepper="a"), digest("s", pepper="b"), bytes(32), None):
            counted.clear()
            rules.is_secret("s", stored=stored, peppers=["a", "b"])
            assert len(counted) == 2


class TestAddress:
    @pytest.mark.parametrize(
        ("address", "networks", "allowed"),
        [
            ("192.0.2.7", [], True),
            ("192.0.2.7", ["192.0.2.0/24"], True),
            ("::ffff:192.0.2.7", ["192.0.2.0/24"], True),
            ("198.51.100.7", ["192.0.2.0/24"], False),
            ("2001:db8::1", ["2001:db8::/32", "192.0.2.0/24"], True),
            ("2001:db8::1", ["192.0.2.0/24"], False),
            ("", ["0.0.0.0/0"], False),
            ("nonsense", ["0.0.0.0/0"], False),
        ],
    )
    def test_is_in_one_of_the_networks(self, address, networks, allowed):
        assert rules.is_address_allowed(address, networks=networks) is allowed

    def test_a_network_is_written_one_way(self):
        assert rules.normal_network(" 192.0.2.7 ") == "192.0.2.7/32"
        assert rules.normal_network("2001:DB8::/32") == "2001:db8::/32"
        assert rules.normal_network("192.0.2.7/24") is None
        assert rules.normal_network("example.com") is None


def test_a_key_is_live_until_its_end_and_not_at_it():
    def live(*, revoked=None, left):
        return rules.is_live(revoked_at=revoked, expires_at=NOW + timedelta(seconds=left), now=NOW)

    assert live(left=1)
    assert not live(left=0)
    assert not live(left=1, revoked=NOW)


@pytest.mark.parametrize(
    ("scope", "is_one"),
    [
        ("payouts:write", True),
        ("bank_accounts:read", True),
        ("payouts:*", False),
        ("Payouts:read", False),
        ("payouts", False),
        ("", False),
    ],
)
def test_a_scope_has_a_form(scope, is_one):
    assert rules.is_scope(scope) is is_one
