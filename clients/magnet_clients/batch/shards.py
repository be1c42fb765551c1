"""`--shard i/n`: which cases are whose, the same on every machine, without asking anyone."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_FORM = re.compile(r"(\d{1,6})/(\d{1,6})")


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` parts of a job; `number` counts from 1."""

    number: int = 1
    count: int = 1

    def __str__(self) -> str:
        """Return it as the command line has it."""
        return f"{self.number}/{self.count}"

    def select(self, cases: Sequence[T]) -> list[T]:
        """Return the cases of this shard, in their order.

        Any `count` cases in a row go to different shards, so that no shard is more than one longer than another, and
        a case stays where it is when more follow. Each such row begins one shard further: with as many shards as
        attitudes, each still gets all of them.
        """
        return [
            case for place, case in enumerate(cases) if (place + place // self.count) % self.count == self.number - 1
        ]


def read_shard(text: str) -> Shard:
    """Return the shard that `i/n` names.

    Raises:
        ValueError: it names none, and what it should look like.
    """
    match = _FORM.fullmatch(text)
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise ValueError(f"{text!r} is not a shard: write i/n with i from 1 to n, as 3/8")
    return Shard(number, count)
