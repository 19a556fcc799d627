"""Tokens open for their own row only, and fail closed."""

import base64
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from apps.core import encryption, transactions
from apps.core.encryption import blind_index, seal, sealer, unseal
from apps.core.errors import InvariantBroken, RuleViolation
from apps.core.ids import new_id
from apps.core.models import DataKey

pytestmark = pytest.mark.django_db(transaction=True)

COLUMN = "banking_account.iban"
IBAN = "DE89370400440532013000"
create_data_key = transactions.outermost(encryption.create_data_key)


@pytest.fixture
def organization_id():
    id_ = new_id()
    create_data_key(organization_id=id_)
    return id_


@pytest.fixture(autouse=True)
def empty_memory():
    encryption._cache.clear()


class TestSeal:
    @given(text=st.text())
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_opens_again_for_its_row(self, organization_id, text):
        row_id = new_id()

        token = seal(organization_id, COLUMN, row_id, text)

        assert unseal(organization_id, COLUMN, row_id, token) == text
        assert unseal(organization_id, COLUMN, row_id, memoryview(token)) == text

    def test_never_makes_one_token_twice(self, organization_id):
        row_id = new_id()

        assert len({seal(organization_id, COLUMN, row_id, IBAN) for _ in range(50)}) == 50

    def test_leaves_nothing_readable(self, organization_id):
        assert IBAN.encode() not in seal(organization_id, COLUMN, new_id(), IBAN)

    def test_of_many_is_as_of_one(self, organization_id):
        rows = {new_id(): f"text {n}" for n in range(20)}
        seal_one = sealer(organization_id)

        tokens = {row_id: seal_one(COLUMN, row_id, text) for row_id, text in rows.items()}

        opened = {id_: unseal(organization_id, COLUMN, id_, tokens[id_]) for id_ in rows}
        assert opened == rows

    def test_needs_a_key(self):
        with pytest.raises(InvariantBroken, match="no data key"):
            seal(new_id(), COLUMN, new_id(), IBAN)


class TestUnseal:
    def test_refuses_another_row_column_or_organization(self, organization_id):
        other, row_id = new_id(), new_id()
        create_data_key(organization_id=other)
        token = seal(organization_id, COLUMN, row_id, IBAN)

        for moved in (
            (organization_id, COLUMN, new_id()),
            (organization_id, "banking_account.bic", row_id),
            (other, COLUMN, row_id),
        ):
            with pytest.raises(InvariantBroken, match="does not open"):
                unseal(*moved, token)

    @given(data=st.data())
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_refuses_a_token_with_any_bit_turned(self, organization_id, data):
        row_id = new_id()
        token = bytearray(seal(organization_id, COLUMN, row_id, IBAN))
        place = data.draw(st.integers(0, len(token) * 8 - 1))
        token[place // 8] ^= 1 << place % 8

        with pytest.raises(InvariantBroken):
            unseal(organization_id, COLUMN, row_id, bytes(token))

    def test_refuses_a_token_cut_anywhere(self, organization_id):
        row_id = new_id()
        token = seal(organization_id, COLUMN, row_id, IBAN)

        for length in range(len(token)):
            with pytest.raises(InvariantBroken):
                unseal(organization_id, COLUMN, row_id, token[:length])

    def test_says_nothing_of_the_clear_text(self, organization_id):
        token = seal(organization_id, COLUMN, new_id(), IBAN)

        with pytest.raises(InvariantBroken) as refused:
            unseal(organization_id, COLUMN, new_id(), token)

        assert IBAN not in str(refused.value)
        assert refused.value.__cause__ is None


class TestDataKey:
    def test_is_made_once(self, organization_id):
        token = seal(organization_id, COLUMN, organization_id, IBAN)

        create_data_key(organization_id=organization_id)

        assert DataKey.objects.count() == 1
        assert unseal(organization_id, COLUMN, organization_id, token) == IBAN

    def test_is_wrapped(self, organization_id):
        row = DataKey.objects.get()

        assert encryption._newest_key(organization_id)[1] not in bytes(row.wrapped)

    def test_is_no_other_organizations(self, organization_id):
        DataKey.objects.update(organization_id=(other := new_id()))

        with pytest.raises(InvariantBroken, match="does not open"):
            seal(other, COLUMN, new_id(), IBAN)

    def test_a_newer_one_seals_and_the_old_one_still_opens(self, organization_id):
        row_id = new_id()
        old = seal(organization_id, COLUMN, row_id, IBAN)
        unseal(organization_id, COLUMN, row_id, old)
        [first] = DataKey.objects.all()
        other = new_id()
        create_data_key(organization_id=other)
        _copy_key(from_=other, to=organization_id, kid=2)

        new = seal(organization_id, COLUMN, row_id, IBAN)

        assert int.from_bytes(new[1:5], "big") == 2
        for token in (old, new):
            assert unseal(organization_id, COLUMN, row_id, token) == IBAN
        assert first.kid == 1

    def test_that_was_rolled_back_is_not_remembered(self):
        id_, row_id = new_id(), new_id()

        @transactions.outermost
        def refused():
            encryption.create_data_key(organization_id=id_)
            unseal(id_, COLUMN, row_id, seal(id_, COLUMN, row_id, IBAN))
            raise RuleViolation("No.")

        with pytest.raises(RuleViolation):
            refused()
        create_data_key(organization_id=id_)

        assert unseal(id_, COLUMN, row_id, seal(id_, COLUMN, row_id, IBAN)) == IBAN

    def test_that_was_deleted_shreds_within_five_minutes(self, organization_id, monkeypatch):
        row_id = new_id()
        token = seal(organization_id, COLUMN, row_id, IBAN)
        unseal(organization_id, COLUMN, row_id, token)
        DataKey.objects.all().delete()

        with pytest.raises(InvariantBroken, match="no data key"):
            seal(organization_id, COLUMN, row_id, IBAN)
        later = encryption.time.monotonic() + 301
        monkeypatch.setattr(encryption.time, "monotonic", lambda: later)
        with pytest.raises(InvariantBroken, match="no data key"):
            unseal(organization_id, COLUMN, row_id, token)

    def test_leaves_memory_after_five_minutes(self, organization_id, monkeypatch):
        other, row_id = new_id(), new_id()
        create_data_key(organization_id=other)
        unseal(organization_id, COLUMN, row_id, seal(organization_id, COLUMN, row_id, IBAN))
        later = encryption.time.monotonic() + 301
        monkeypatch.setattr(encryption.time, "monotonic", lambda: later)

        unseal(other, COLUMN, row_id, seal(other, COLUMN, row_id, IBAN))

        assert list(encryption._cache) == [(other, 1)]

    def test_is_read_once_for_many_tokens(self, organization_id, django_assert_num_queries):
        tokens = {id_: seal(organization_id, COLUMN, id_, IBAN) for id_ in (new_id(), new_id())}

        with django_assert_num_queries(1):
            for row_id, token in tokens.items():
                unseal(organization_id, COLUMN, row_id, token)

    @pytest.mark.parametrize("known", [False, True])
    def test_fails_closed_without_its_key_encryption_key(
        self, organization_id, tmp_path, settings, known
    ):
        token = seal(organization_id, COLUMN, organization_id, IBAN)
        kid = DataKey.objects.get().kek_id if known else "other"
        ring = {"current": kid, "keys": {kid: base64.b64encode(os.urandom(32)).decode()}}
        (tmp_path / "ring.json").write_text(json.dumps(ring))
        settings.KASSA_KEY_FILE = str(tmp_path / "ring.json")

        with pytest.raises(InvariantBroken, match="does not open"):
            unseal(organization_id, COLUMN, organization_id, token)


def _copy_key(*, from_, to, kid):
    """Give `to` the key of `from_`, wrapped for it."""
    key = encryption._newest_key(from_)[1]
    kek_id, keys = encryption._ring(encryption.settings.KASSA_KEY_FILE)
    nonce = os.urandom(12)
    wrapped = nonce + encryption.AESGCM(keys[kek_id]).encrypt(nonce, key, to.bytes)
    DataKey.objects.create(organization_id=to, kid=kid, kek_id=kek_id, wrapped=wrapped)


class TestBlindIndex:
    def test_is_equal_for_equal_values_of_one_purpose_and_organization_only(self):
        one, other = new_id(), new_id()

        index = blind_index(one, "iban", IBAN)

        assert len(index) == 32
        assert blind_index(one, "iban", IBAN) == index
        others = {
            blind_index(one, "iban", "x"),
            blind_index(one, "name", IBAN),
            blind_index(other, "iban", IBAN),
        }
        assert len(others | {index}) == 4

    def test_depends_on_the_pepper(self, settings):
        one = new_id()
        index = blind_index(one, "iban", IBAN)

        settings.KASSA_PEPPER = "another"

        assert blind_index(one, "iban", IBAN) != index
