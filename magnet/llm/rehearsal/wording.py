"""Small text operations: sentences, clauses, first person to second person, and what makes two texts alike."""

import re
from functools import lru_cache

from magnet.llm.rehearsal.lexicon import lexicon

_SENTENCE_END = re.compile(r"(?<=[.!?…])[\"'”’)]*\s+(?=[\"'“‘(]?[^\W_a-zß-ÿ])")
_CLAUSE_END = re.compile(
    r"[,;:]\s+(?:and|but|so|yet|because|although|though|when|where)\s+|[;:]\s+|\s[–—]\s"
    r"|\s(?:when|because|although|though|and|but)\s+(?=I\b|my\b)"
)
_ABBREVIATIONS = ("Mr.", "Mrs.", "Ms.", "Dr.", "St.", "e.g.", "i.e.", "Prof.")
_QUOTED = re.compile(r"[\"“][^\"”]*[\"”]|(?<!\w)['‘](?:[^'’]|['’](?=\w))*['’](?!\w)")
_FILLER = re.compile(
    r"(?:Honestly|Well|Yes|No|Look|Hi|Hello|Okay|So|And|But|Now|Thank you|To be fair|Anyway)[,!.]?\s+(?=\w)"
)
_PIECE_END = re.compile(r"[,;:–—]\s+(?:and |but |so )?|\s(?:when|because|although|and)\s")
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
_TRIM = " \t.,;:!?…\"'“”‘’()[]*_-–—"

_SECOND_PERSON = {
    "i": "you",
    "i'm": "you're",
    "i've": "you've",
    "i'd": "you'd",
    "i'll": "you'll",
    "me": "you",
    "my": "your",
    "mine": "yours",
    "myself": "yourself",
    "am": "are",
    "we": "you",
    "us": "you",
    "our": "your",
    "ours": "yours",
    "ourselves": "yourselves",
    "we're": "you're",
    "we've": "you've",
    "we'd": "you'd",
    "we'll": "you'll",
}
_FIRST_PERSON = frozenset(_SECOND_PERSON) - {"am", "us"}
_YOU = frozenset({"you", "your", "yours", "yourself", "you're", "you've", "you'd", "you'll"})
_ADVERBS = frozenset({"also", "still", "never", "always", "only", "just", "even", "simply", "often", "once"})

_CLAUSE_WORDS = range(5, 19)
_QUOTE_WORDS = range(3, 9)
_MARKS = '"“”‘[]{}<>|/*\n'
_WEAK_STARTS = ("i don't know", "i do not know", "i suppose", "i think", "i guess", "i'd say", "i'm not sure", "i can ")


@lru_cache(maxsize=4096)
def sentences(text: str) -> tuple[str, ...]:
    """Return the sentences of a text, in order, without blank ones."""
    found: list[str] = []
    for piece in _SENTENCE_END.split(" ".join(text.split())):
        if found and found[-1].endswith(_ABBREVIATIONS):
            found[-1] = f"{found[-1]} {piece}"
        elif piece:
            found.append(piece)
    return tuple(_close_quotes(sentence) for sentence in found)


def _close_quotes(sentence: str) -> str:
    # The split takes a closing quote with the blank that follows it, so it is put back where one is open.
    for opening, closing in (("“", "”"), ('"', '"')):
        count = sentence.count(opening)
        if (opening == closing and count % 2) or (opening != closing and count > sentence.count(closing)):
            return sentence + closing
    return sentence


def words(text: str) -> list[str]:
    """Return the words of a text, lower case, without punctuation at their ends."""
    return _WORD.findall(text.lower().replace("’", "'"))


@lru_cache(maxsize=8192)
def openers(line: str) -> frozenset[str]:
    """Return the opener of every sentence of an utterance."""
    return frozenset(map(opener, sentences(line)))


def opener(text: str) -> str:
    """Return the first two words, by which stock openings are recognized."""
    return " ".join(words(" ".join(text.split(maxsplit=2)[:2])))


def capitalize(text: str) -> str:
    """Return the text with a capital first letter; the rest stays as it is."""
    return text[:1].upper() + text[1:]


def lower_start(text: str) -> str | None:
    """Return the text with a small first letter, or None where the first word may be a name or "I"."""
    first = text.split(maxsplit=1)[0].strip(_TRIM) if text.strip() else ""
    low = first.lower()
    return text[:1].lower() + text[1:] if low in lexicon("lowerable") and low not in lexicon("unlinked") else None


def to_second_person(clause: str) -> str:
    """Return a first-person clause said to its speaker: "I check my phone" gives "you check your phone"."""
    swapped: list[str] = []
    subject = False
    for token in clause.replace("’", "'").split():
        core = token.strip(_TRIM)
        low = core.lower()
        new = {"was": "were", "wasn't": "weren't"}.get(low) if subject else None
        new = new or _SECOND_PERSON.get(low)
        swapped.append(token.replace(core, new, 1) if core and new else token)
        subject = low == "i" or (subject and low in _ADVERBS)
    return " ".join(swapped)


@lru_cache(maxsize=4096)
def own_clauses(utterance: str) -> tuple[str, ...]:
    """Return the clauses in which a speaker tells of themselves, said back to them, strongest first.

    Only clauses that stand alone, quote nobody and address nobody are kept, so that each can follow "you said that".
    """
    scored: list[tuple[int, str]] = []
    for sentence in sentences(utterance[:4000]):
        if sentence.endswith("?"):
            continue
        # Words that the speaker quotes are not their own, so a quotation leaves a mark that rules its clause out.
        for whole in _CLAUSE_END.split(_FILLER.sub("", _QUOTED.sub("“", sentence), count=1)):
            clause = _shorten(whole)
            score = _score(clause)
            if score:
                scored.append((-score, _lower_first(to_second_person(clause.strip(_TRIM)))))
    return tuple(clause for _, clause in sorted(scored, key=lambda pair: pair[0]))


def _shorten(clause: str) -> str:
    # "I've had two transfers, one of which …" is said back without the second half; a list stays whole.
    head, comma, tail = clause.partition(", ")
    size = len(head.split())
    follows = tail.split(maxsplit=1)[0].lower() if tail.strip() else ""
    cuts = follows in lexicon("relative") or (size > _CLAUSE_WORDS.start and len(clause.split()) >= _CLAUSE_WORDS.stop)
    return head if comma and cuts and size >= _CLAUSE_WORDS.start and clause[:1] in "IMW" else clause


@lru_cache(maxsize=4096)
def fragments(utterance: str) -> tuple[str, ...]:
    """Return a few words here and there that can be quoted verbatim, the longer ones first."""
    found: list[str] = []
    for sentence in sentences(utterance[:4000]):
        for piece in _PIECE_END.split(_QUOTED.sub("“", sentence)):
            tokens = words(piece)
            clean = piece.strip(_TRIM)
            if len(tokens) not in _QUOTE_WORDS or clean[0].isupper():
                continue
            if tokens[-1] in lexicon("dangling") or tokens[0] in lexicon("subordinate"):
                continue
            if not _YOU.intersection(tokens) and not any(mark in clean for mark in _MARKS):
                found.append(clean)
    return tuple(sorted(found, key=lambda piece: -len(piece.split())))


def _score(clause: str) -> int:
    # Zero: not usable. A fuller clause is worth more than a short one, a hedge less than a statement.
    tokens = words(clause)
    if len(tokens) not in _CLAUSE_WORDS or not _stands_alone(tokens, clause):
        return 0
    if any(mark in clause for mark in _MARKS) or " '" in clause or _YOU.intersection(tokens):
        return 0
    return len(tokens) - (4 if " ".join(tokens).startswith(_WEAK_STARTS) else 0)


def _stands_alone(tokens: list[str], clause: str) -> bool:
    first = tokens[0]
    if first == "when":
        return ", I " in clause or ", my " in clause
    if first in lexicon("subordinate"):
        return False
    if first in _FIRST_PERSON:
        return first not in ("me", "mine", "myself", "us", "ourselves")
    # Somebody else's doing is worth saying back where it touches the speaker: "Amir has begun to correct my articles".
    return clause.strip(_TRIM)[:1].isupper() and any(own in clause for own in (" I ", " me", " my "))


def _lower_first(clause: str) -> str:
    first = clause.split(maxsplit=1)[0].lower() if clause else ""
    first = first.strip(_TRIM)
    known = first in lexicon("lowerable") or first in lexicon("subordinate") or first in _SECOND_PERSON.values()
    # "Waiting is what I do" begins with no name, although no list holds its first word.
    return clause[:1].lower() + clause[1:] if known or first.endswith("ing") else clause


def shares_run(first: list[str], second: list[str], length: int) -> bool:
    """Return whether two word lists share a run of `length` words."""
    if len(first) < length or len(second) < length:
        return False
    runs = {tuple(first[i : i + length]) for i in range(len(first) - length + 1)}
    return any(tuple(second[i : i + length]) in runs for i in range(len(second) - length + 1))


def is_near_repeat(text: str, earlier: tuple[str, ...], threshold: float = 0.8) -> bool:
    """Return whether the text repeats one of the earlier ones: equal, or token Jaccard at or above the threshold."""
    tokens = frozenset(words(text))
    size = len(tokens)
    for line in earlier:
        if line == text:
            return True
        # A cheap bound first: far shorter or longer texts cannot reach the threshold.
        if not size * 2 < len(line) < size * 16:
            continue
        other = word_set(line)
        if len(tokens & other) >= threshold * len(tokens | other):
            return True
    return False


@lru_cache(maxsize=8192)
def word_set(line: str) -> frozenset[str]:
    """Return the different words of an utterance."""
    return frozenset(words(line))
