"""The OpenAPI document as a client's developer reads it, over every app's operations."""

from collections.abc import Iterator
from typing import Any

from tests.ledger import documents


def operations() -> Iterator[dict[str, Any]]:
    for methods in documents.load()["paths"].values():
        yield from methods.values()


def contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is sent and what is answered to it, by media type; refusals are all alike."""
    if "requestBody" in operation:
        yield from operation["requestBody"]["content"].items()
    for status, answer in operation["responses"].items():
        if int(status) < 300 and not answer["description"].startswith("A dry run"):
            yield from answer.get("content", {}).items()


def test_gives_an_example_of_whatever_is_sent_and_answered_which_fits_its_schema():
    for operation in operations():
        # A file is no JSON to show.
        shown = [media for kind, media in contents(operation) if kind == "application/json"]
        assert shown or next(iter(operation["responses"])) == "204", operation["operationId"]
        for media in shown:
            [example] = media.get("examples", {"none": {"value": None}}).values()
            faults = documents.faults(media["schema"], example["value"])
            assert faults == [], operation["operationId"]


def test_says_of_a_file_that_it_is_sent_as_a_form():
    [upload] = [one for one in operations() if one["operationId"] == "post_bank_files"]

    assert list(upload["requestBody"]["content"]) == ["multipart/form-data"]
    # As every other body is JSON.
    kinds = [kind for one in operations() for kind in one.get("requestBody", {}).get("content", ())]
    assert set(kinds) == {"multipart/form-data", "application/json"}
    assert kinds.count("multipart/form-data") == 1
