"""
Every documented code is produced by a test (api.md, Proof): here, that one expects it.

What is looked for is the code itself, or the name of its refusal, where a test could compare
something with it. That the comparison holds the tests themselves say as they run; what this cannot
see is whether they are reached, or whether it was a test that made the refusal which it found.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

from apps.core.errors import refusal_classes
from config import docs

TESTS = Path(settings.BASE_DIR) / "tests"
# What they say of codes is what is written about them.
ABOUT_CODES = {
    TESTS / "config" / "test_docs.py",
    TESTS / "config" / "test_every_code.py",
    TESTS / "core" / "test_errors.py",
}
WORD = re.compile(r"\w+")


def expected(source: str) -> Iterator[str]:
    """Yield each word that a test may compare something with: a text by itself, or a class."""
    nodes = list(ast.walk(ast.parse(source)))
    # A refusal that a test makes is none that it met, and a docstring is for people.
    made = {node.func for node in nodes if isinstance(node, ast.Call)}
    told = {node.value for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        match node:
            case ast.keyword(arg="match"):
                yield from WORD.findall(ast.unparse(node.value))
            case ast.Constant(value=str(text)) if node not in told:
                yield text
            case ast.Constant(value=bytes(text)):
                yield text.decode(errors="replace")
            case ast.Name(id=name) | ast.Attribute(attr=name) if node not in made:
                yield name


def expected_codes() -> set[str]:
    """Return every code that a test expects."""
    # Not those that tests make to try others with.
    ours = {code: one for code, one in refusal_classes().items() if one.__module__[:5] == "apps."}
    names = {kind.__name__: code for code, kind in ours.items()}
    assert len(names) == len(ours), "Two refusals have one name."
    files = set(TESTS.rglob("test_*.py")) - ABOUT_CODES
    words = {word for path in files for word in expected(path.read_text())}
    return words | {names[word] for word in words & names.keys()}


def test_is_expected_by_a_test():
    documented = {one.code for one in docs.list_codes()}

    assert documented - expected_codes() == set()


def test_is_looked_for_where_something_is_compared():
    source = '''
"""Never: told_alone."""

def test_it():
    """Nor here: told_again."""
    with pytest.raises(errors.Refused, match="^matched_code: no"):
        act()
    with pytest.raises(Plain):
        raise Made("no", why="said")
    assert code_of(answer) == (409, "compared")
    assert b"in_bytes" in answer.content
'''

    words = set(expected(source))

    assert {"Refused", "Plain", "matched_code", "compared", "in_bytes"} <= words
    assert not {"Made", "told_alone", "told_again"} & words
