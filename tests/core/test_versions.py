"""Older versions of an event are made from the newest, one step at a time."""

from copy import deepcopy

import pytest

from apps.core import versions
from apps.core.errors import InvariantBroken
from tests.webhooks.older_versions import (
    FIRST,
    SECOND,
    SHAPES,
    THIRD,
    ParcelLost,
    ParcelSent,
    before_units,
)


class TestVersions:
    def test_are_newest_first_whatever_came_first(self):
        assert list(versions.VERSIONS) == sorted(versions.VERSIONS, reverse=True)
        assert versions.VERSIONS[0] == versions.NEWEST
        assert {THIRD, SECOND, FIRST} <= set(versions.VERSIONS)


class TestDowngrade:
    @pytest.mark.parametrize("version", SHAPES)
    def test_takes_every_step_from_the_newest_on(self, version):
        newest = deepcopy(SHAPES[THIRD])

        assert versions.downgrade("parcel.sent", newest, version=version) == SHAPES[version]
        assert newest == SHAPES[THIRD]

    @pytest.mark.parametrize("version", SHAPES)
    def test_leaves_alone_what_never_changed(self, version):
        data = {"parcel": "p1"}

        assert versions.downgrade("parcel.lost", data, version=version) == data


class TestNearest:
    @pytest.mark.parametrize(
        ("pinned", "version"),
        [
            (THIRD, THIRD),
            (SECOND, SECOND),
            (FIRST, FIRST),
            # Between two changes the older shape was that of the next one.
            ("2026-08-15", THIRD),
            ("2026-03-01", SECOND),
            ("2020-01-01", FIRST),
            ("2999-01-01", THIRD),
        ],
    )
    def test_is_the_oldest_that_is_not_older(self, pinned, version):
        assert versions.nearest(pinned) == version


class TestRegisterDowngrade:
    @pytest.mark.parametrize("version", [THIRD, "2999-01-01", "2026-6-1", "v1", ""])
    def test_refuses_what_is_no_date_before_the_newest(self, version):
        before = list(versions.VERSIONS)

        with pytest.raises(InvariantBroken, match=r"parcel\.lost"):
            versions.register_downgrade(ParcelLost, version=version, step=before_units)

        assert list(versions.VERSIONS) == before

    def test_refuses_a_second_function_for_one_step(self):
        with pytest.raises(InvariantBroken, match="2026-06-01"):
            versions.register_downgrade(ParcelSent, version=SECOND, step=before_units)
