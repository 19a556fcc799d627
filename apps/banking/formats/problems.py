"""What is wrong with a bank file, said so that a person finds the place."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import override


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """
    One reason to refuse a file.

    `statement` is the bank's own id where the file gives one, else its number in the file;
    `entry` counts from 1 within the statement; `line` is the line of the file, where known.
    """

    code: str
    message: str
    file: str = ""
    statement: str = ""
    entry: int | None = None
    line: int | None = None
    details: Mapping[str, object] = field(default_factory=dict)

    @override
    def __str__(self) -> str:
        places = [
            self.file,
            f"statement {self.statement}" if self.statement else "",
            f"entry {self.entry}" if self.entry is not None else "",
            f"line {self.line}" if self.line is not None else "",
        ]
        where = ", ".join(place for place in places if place)
        return f"{where}: {self.message}" if where else self.message


class UnreadableFile(Exception):
    """The file cannot be taken; `problem` says why and where."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem

    def within(
        self,
        *,
        file: str = "",
        statement: str = "",
        entry: int | None = None,
        line: int | None = None,
    ) -> "UnreadableFile":
        """Return the same with its place named, where it was not yet."""
        known = self.problem
        return UnreadableFile(
            replace(
                known,
                file=known.file or file,
                statement=known.statement or statement,
                entry=entry if known.entry is None else known.entry,
                line=line if known.line is None else known.line,
            )
        )


def refuse(
    code: str, message: str, *, line: int | None = None, **details: object
) -> UnreadableFile:
    """Build the refusal to raise."""
    return UnreadableFile(Problem(code=code, message=message, line=line, details=details))
