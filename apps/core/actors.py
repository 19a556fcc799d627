"""Who acts: an API key, a member of staff, or one of our jobs."""

from dataclasses import dataclass
from typing import Literal, Self, override

type ActorKind = Literal["api_key", "staff", "job"]


@dataclass(frozen=True, slots=True)
class Actor:
    """
    One actor. ``principal`` is the person behind it, ``staff:<uuid>``; for a job it is the job.

    The two-person rule compares principals, so an API key cannot approve what its issuer asked for.
    """

    kind: ActorKind
    id: str
    principal: str

    @classmethod
    def job(cls, name: str) -> Self:
        return cls(kind="job", id=name, principal=f"job:{name}")

    @classmethod
    def staff(cls, id_: object) -> Self:
        return cls(kind="staff", id=str(id_), principal=f"staff:{id_}")

    @override
    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"
