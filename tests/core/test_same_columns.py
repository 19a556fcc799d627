"""Columns of one value for all rows travel once, where the statement says that they may."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from apps.core import statements

pytestmark = pytest.mark.django_db
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

SAME = """
    SELECT r.place, r.name, r.org, r.at, r.number
      FROM unnest(%(references)s::text[], /* same */ %(orgs)s::uuid[], %(times)s::timestamptz[],
                  /* same */ %(numbers)s::int[]) WITH ORDINALITY AS r(name, org, at, number, place)
     ORDER BY r.place
"""


class TestColumnsOfOneValue:
    @staticmethod
    def columns(**others):
        return {
            "references": statements.texts([f"name {at}" for at in range(6)]),
            "orgs": statements.uuids([None] * 6),
            "times": statements.instants([NOON] * 6),
            "numbers": statements.int4s([7] * 6),
            **others,
        }

    @pytest.mark.parametrize(
        ("others", "arrays"),
        [
            ({}, 1),
            ({"orgs": None}, 1),
            ({"numbers": statements.int4s(range(6))}, 2),
            # Of a level all are, or none: so there are few statements to prepare.
            ({"times": statements.instants([NOON] * 5 + [None])}, 4),
            ({"orgs": statements.uuids([uuid4()] * 6)}, 4),
        ],
    )  # fmt: skip
    def test_travel_once_if_all_of_their_level_have_one(self, others, arrays):
        text = f"{SAME} -- {uuid4()}"
        statements.run(text, self.columns(**others))

        [(types,)] = statements.run(
            "SELECT parameter_types::text FROM pg_prepared_statements"
            " WHERE statement LIKE %(like)s",
            {"like": f"%{text[-36:]}"},
        )
        assert types.count("[]") == arrays

    @pytest.mark.parametrize("numbers", [[7] * 6, range(6)])
    @pytest.mark.parametrize("at", [None, NOON])
    @pytest.mark.parametrize("org", [None, uuid4()])
    def test_are_rows_as_any_other(self, numbers, at, org):
        given = self.columns(
            orgs=statements.uuids([org] * 6),
            times=statements.instants([at] * 6),
            numbers=statements.int4s(list(numbers)),
        )

        assert statements.run(SAME, given) == [
            (place, f"name {place - 1}", org, at, number) for place, number in enumerate(numbers, 1)
        ]

    @pytest.mark.parametrize("kind", ["int8s", "int4s"])
    @pytest.mark.parametrize("values", [[0] * 5, [-1] * 9, [1, 2, 3, 2, 1], [1, 1, 2, 1, 1]])
    def test_are_arrays_elsewhere(self, kind, values):
        column = getattr(statements, kind)(values)

        assert statements.run(f"SELECT %(v)s::{kind[:-1]}[]", {"v": column}) == [(values,)]

    @pytest.mark.parametrize("text", [None, "", "é"])
    def test_are_arrays_of_texts_elsewhere(self, text):
        column = statements.texts([text] * 5)

        assert statements.run("SELECT %(v)s::text[]", {"v": column}) == [([text] * 5,)]

    @pytest.mark.parametrize("rows", [5, 7])
    def test_that_are_shorter_or_longer_are_filled_up_with_nulls(self, rows):
        given = self.columns(times=statements.instants([NOON] * rows))

        found = [row[3] for row in statements.run(SAME, given)]
        assert found == [NOON] * rows + [None] * (6 - rows)

    def test_may_be_all_of_them(self):
        found = statements.run(SAME, self.columns(references=statements.texts(["a"] * 6)))

        assert [row[1] for row in found] == ["a"] * 6

    def test_of_no_row_are_none(self):
        empty = {
            "references": statements.texts([]),
            "orgs": statements.uuids([]),
            "times": statements.instants([]),
            "numbers": None,
        }

        assert statements.run(SAME, empty) == []
