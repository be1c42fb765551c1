"""What is said again: the normal form of an utterance, and exact repeats, near repeats and echoes in it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from magnet.dialogue import Role

ECHO_WORDS = 5
"""Words in a row that a client must share with the counselor turn just before for an echo."""

_SHARED_RUN = bytes([True] * ECHO_WORDS)

# Near means a Jaccard index of at least 4/5; as whole numbers, so that 0.8 itself is never lost to rounding.
_NEAR_NUMERATOR, _NEAR_DENOMINATOR = 4, 5

_KEPT = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789 ")
_NEWLINE_TO_SPACE = bytes.maketrans(b"\n", b" ")
_DROPPED = bytes(code for code in range(256) if code not in _KEPT and code != ord("\n"))


def normal_words(text: str) -> list[str]:
    """Return the words of the normal form: lower case, newlines to spaces, all but a–z, 0–9 and the space dropped."""
    # Several times as fast as a regular expression; what is not ASCII is none of these.
    kept = text.lower().encode("ascii", "ignore").translate(_NEWLINE_TO_SPACE, _DROPPED)
    return kept.decode("ascii").split()


def place_of_word(text: str, index: int) -> int:
    """Return about where in the text the word of its normal form with this index, from 0, begins.

    A dash that stands alone is no word of the normal form, so each one before shifts the place by a word.
    """
    return len(text) - len(text.split(None, index)[-1]) if text.strip() else 0


class Line:
    """One utterance and its normal form; `position` is its place in the dialogue, from 0."""

    __slots__ = ("form", "is_empty", "position", "role", "text", "vocabulary", "words")

    def __init__(self, position: int, role: Role, text: str) -> None:
        """Work out the normal form; an utterance is empty where nothing is left of it, or only its role's name."""
        self.position = position
        self.role = role
        self.text = text
        self.words = normal_words(text)
        self.form = " ".join(self.words)
        self.is_empty = self.form in ("", role.value)
        self.vocabulary = frozenset(self.words)


@dataclass(frozen=True, slots=True)
class Repeat:
    """An utterance that says what the same speaker said before.

    `times` is how often in the very same words, `similarity` the Jaccard index of its words with the most similar
    earlier utterance (1 for the same words), `earlier` that one's position.
    """

    line: Line
    times: int
    similarity: float
    earlier: int


@dataclass(frozen=True, slots=True)
class Echo:
    """A client's utterance with a run of words from the counselor turn just before.

    `start` is the index of the run's first word, `length` its words.
    """

    line: Line
    start: int
    length: int


def find_repeats(lines: Sequence[Line], first: int) -> Iterator[Repeat]:
    """Yield every repeat from position `first` on, exact or near; what came before `first` can be repeated too."""
    said: dict[Role, list[_Said]] = {role: [] for role in Role}
    bits = _Bits()
    for line in lines:
        if line.is_empty:
            continue
        now = line, len(line.vocabulary), sum(map(bits.__getitem__, line.vocabulary))
        if line.position >= first and (repeat := _find_repeat(now, said[line.role])):
            yield repeat
        said[line.role].append(now)


def find_echoes(lines: Sequence[Line], first: int) -> Iterator[Echo]:
    """Yield the client's echoes from position `first` on."""
    for before, line in pairwise(lines):
        if line.position < first or line.role is not Role.CLIENT or before.role is not Role.COUNSELOR:
            continue
        # A run that both share is one of words that both have, which most pairs of turns are quickly seen not to have.
        is_shared = bytes(map(before.vocabulary.__contains__, line.words))
        if _SHARED_RUN not in is_shared or line.is_empty:
            continue
        if run := longest_shared_run(line.words, before.words):
            yield Echo(line, *run)


def longest_shared_run(words: Sequence[str], others: Sequence[str]) -> tuple[int, int] | None:
    """Return where in `words` the longest run that both have begins, and its length; None under `ECHO_WORDS` words."""
    shared = set(_runs(words, ECHO_WORDS)).intersection(_runs(others, ECHO_WORDS))
    if not shared:
        return None
    # A run of n words begins n − 4 such runs. Whoever shares a run shares each shorter one, so its length can be
    # bisected, even where one word fills the turn.
    begun = sum(run in shared for run in _runs(words, ECHO_WORDS))
    shortest, longest = ECHO_WORDS, min(len(others), ECHO_WORDS - 1 + begun)
    while shortest < longest:
        length = (shortest + longest + 1) // 2
        if _shares_run(words, others, length):
            shortest = length
        else:
            longest = length - 1
    theirs = set(_runs(others, shortest))
    return next(start for start, run in enumerate(_runs(words, shortest)) if run in theirs), shortest


def _shares_run(words: Sequence[str], others: Sequence[str], length: int) -> bool:
    return not set(_runs(words, length)).isdisjoint(_runs(others, length))


def _runs(words: Sequence[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(length)), strict=False)


class _Bits(dict[str, int]):
    """A bit for every word: the words that two utterances share are counted faster so than by intersecting sets."""

    def __missing__(self, word: str) -> int:
        bit = self[word] = 1 << len(self)
        return bit


_Said: TypeAlias = tuple[Line, int, int]
"""An utterance, how many different words it has, and those words as the bits of a number."""


def _find_repeat(now: _Said, earlier: Sequence[_Said]) -> Repeat | None:
    line, size, mask = now
    same = [other.position for other, _, _ in earlier if other.form == line.form]
    if same:
        return Repeat(line, len(same), 1.0, same[0])
    best: tuple[float, int] | None = None
    for other, other_size, other_mask in earlier:
        shared = (mask & other_mask).bit_count()
        union = size + other_size - shared
        if shared * _NEAR_DENOMINATOR >= union * _NEAR_NUMERATOR and (best is None or shared / union > best[0]):
            best = shared / union, other.position
    return Repeat(line, 0, *best) if best else None
