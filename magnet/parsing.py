"""Reading model answers: pure functions from text to a plan, techniques or an utterance.

Each returns a `Reading`: the value, and the problem that makes the answer worth asking for again, if any.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar, cast

from magnet.agents import CBT_TECHNIQUES, Technique
from magnet.dialogue import Role
from magnet.llm import Choice

T = TypeVar("T")

Problem: TypeAlias = Literal["empty", "truncated", "filtered", "unreadable"]
"""Why an answer is asked for again; worst last in `PROBLEMS_BY_BADNESS`."""

PROBLEMS_BY_BADNESS: tuple[Problem | None, ...] = (None, "truncated", "unreadable", "filtered", "empty")


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """What an answer says, and what is wrong with it."""

    value: T
    problem: Problem | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The CBT plan: one of `CBT_TECHNIQUES` (None where the answer names none) and the plan's text."""

    technique: str | None
    text: str


@dataclass(frozen=True, slots=True)
class ClientLine:
    """A client's utterance, and whether it carried the end marker."""

    text: str
    has_end_marker: bool


_LABELS: Mapping[Role, str] = {Role.COUNSELOR: "Counselor|Counsellor|Therapist", Role.CLIENT: "Client|Patient"}
_DECORATION = r"[*_#>\s\"“'\[(]*"
_LINE_LABEL = {
    role: re.compile(rf"^{_DECORATION}(?:{label})\b[*_\])]*[ \t]*[:：][*_]*[ \t]*", re.MULTILINE | re.IGNORECASE)
    for role, label in _LABELS.items()
}
# Inside a line only a capitalised label after the end of a sentence counts: "my client: a bank" is speech.
_INLINE_LABEL = {
    role: re.compile(rf"(?<=[.!?…\"”*])[ \t]+\*{{0,2}}(?:{label})\*{{0,2}}:") for role, label in _LABELS.items()
}
_PREAMBLE = re.compile(
    r"\A\s*(?:(?:sure|certainly|of course|absolutely|okay|ok|great)[,!.:]*\s+)?"
    r"(?:here(?:'s|’s| is| are)|this is|below is|(?:the|a|my)(?: possible| suggested| next| final)+)\b"
    r"[^\n:]{0,80}?\b(?:utterances?|responses?|reply|replies|turns?|messages?|answers?|candidates?|statements?|versions?)\b"
    r"[^\n:]{0,60}:\s*",
    re.IGNORECASE,
)
_END_MARKER = re.compile(r"\[\s*/?\s*END\s*\]", re.IGNORECASE)
_SPECIAL_TOKEN = re.compile(r"<\|[a-z_]+\|>|</s>|\[/?INST\]")
_QUOTES = (('"', '"'), ("“", "”"), ("«", "»"), ("„", "“"), ("'", "'"))
_MESSAGE_FIELD = re.compile(
    r"""['"](?:message|text|content|utterance)['"]\s*:\s*(['"])(?P<text>.+)\1\s*[,}\]]""", re.DOTALL
)

_CBT_LABEL = re.compile(
    r"^\W*(?:(?:selected|chosen|appropriate)\s+)?(?:CBT\s+)?technique\W*?[:：]\W*(.+)$", re.I | re.M
)
_PLAN_LABEL = re.compile(
    r"^\W*(?:counsell?ing\s+)?plan(?:ning)?\b[^\n:：]{0,60}[:：][*_ \t]*", re.IGNORECASE | re.MULTILINE
)
_TECHNIQUE = re.compile(
    r"(?P<reflection>\breflect(?:ions?|ing|ive listening)\b)"
    r"|(?P<questioning>\bquestion(?:s|ing)?\b)"
    r"|(?P<solution>\bsolutions?\b(?:[ -]provision)?|\bproblem[ -]solving\b)"
    r"|(?P<normalization>\bnormali[sz](?:ation|ing)\b)"
    r"|(?P<psychoeducation>\bpsycho[ -‐‑]?education\b)",
    re.IGNORECASE,
)
_BETWEEN_NAMES = re.compile(r"\band\b|\btechniques?\b|\bagents?\b|[\W\d_]", re.IGNORECASE)


def read_utterance(choice: Choice, role: Role) -> Reading[str]:
    """Return one turn of plain text: no role label, wrapping quotes or preamble, nothing of the other speaker, one line."""
    text = _strip_utterance(choice.text, role)
    return Reading(text, _find_problem(choice, text))


def read_client_line(choice: Choice) -> Reading[ClientLine]:
    """Return the client's turn with the end marker taken out.

    Source: the paper's client ends a session with `[/END]`.
    """
    without = _END_MARKER.sub(" ", choice.text)
    text = _strip_utterance(without, Role.CLIENT)
    return Reading(ClientLine(text, without != choice.text), _find_problem(choice, text))


def read_plan(choice: Choice) -> Reading[Plan]:
    """Return the plan; its technique is matched to the twelve, whatever the case or decoration."""
    text = _SPECIAL_TOKEN.split(choice.text.strip(), maxsplit=1)[0]
    label = _CBT_LABEL.search(text)
    technique = _match_cbt(label.group(1)) if label else None
    heading = _PLAN_LABEL.search(text, label.end() if label else 0)
    body = text[heading.end() :] if heading else text[label.end() :] if label else text
    plan = Plan(technique or _match_cbt(text), body.strip(" \n\t*_"))
    problem = _find_problem(choice, plan.text)
    return Reading(plan, "unreadable" if problem is None and plan.technique is None else problem)


def read_techniques(choice: Choice) -> Reading[tuple[Technique, ...]]:
    """Return the techniques the answer names, in its order, each once.

    A line of nothing but names wins over names mentioned in an explanation.
    """
    clean = [line for line in choice.text.splitlines() if _TECHNIQUE.search(line) and _is_only_names(line)]
    named = _find_techniques(clean[-1] if clean else choice.text)
    if named:
        return Reading(named, "truncated" if choice.is_cut_off else None)
    return Reading((), _find_problem(choice, choice.text.strip()) or "unreadable")


def _find_problem(choice: Choice, text: str) -> Problem | None:
    if choice.finish_reason == "content_filter":
        return "filtered"
    if not any(character.isalnum() for character in text):
        return "empty"
    return "truncated" if choice.is_cut_off else None


def _strip_utterance(raw: str, role: Role) -> str:
    text = _SPECIAL_TOKEN.split(_unwrap_json(raw.strip()), maxsplit=1)[0]
    text = _PREAMBLE.sub("", text, count=1)
    text = _keep_own_words(text, role)
    text = " ".join(text.replace("```", " ").split())
    return _strip_quotes(text)


def _keep_own_words(text: str, role: Role) -> str:
    """Drop the speaker's own labels, and everything from the other speaker's label on."""
    own, other = _LINE_LABEL[role], _LINE_LABEL[role.other]
    lead = other.match(text)
    if lead and (first_own := own.search(text)):
        # The model wrote the other side first, then its own turn.
        text = text[first_own.start() :]
    cuts = [match.start() for pattern in (other, _INLINE_LABEL[role.other]) if (match := pattern.search(text))]
    text = text[: min(cuts)] if cuts else text
    return own.sub("", text)


def _unwrap_json(text: str) -> str:
    """Return the message of an answer like {"role": "counselor", "message": "…"}, else the text itself."""
    if not text.startswith(("{", "[")):
        return text
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError:
        match = _MESSAGE_FIELD.search(text)
        return match["text"] if match else text
    if isinstance(value, list) and value:
        value = cast(list[object], value)[-1]
    if isinstance(value, dict):
        record = cast(dict[str, object], value)
        found = (record[key] for key in ("message", "text", "content", "utterance", "response") if key in record)
        return str(next(found, text))
    return text


def _strip_quotes(text: str) -> str:
    for opening, closing in _QUOTES:
        inside = text[1:-1]
        if (
            len(text) > 1
            and text[0] == opening
            and text[-1] == closing
            and closing not in inside
            and opening not in inside
        ):
            return inside.strip()
    return text


def _match_cbt(text: str) -> str | None:
    folded = re.sub(r"[^a-z]+", " ", text.lower())
    found = [(folded.find(_fold(name)), name) for name in CBT_TECHNIQUES if _fold(name) in folded]
    return min(found)[1] if found else None


def _fold(name: str) -> str:
    return re.sub(r"[^a-z]+", " ", name.lower())


def _is_only_names(line: str) -> bool:
    return not _BETWEEN_NAMES.sub("", _TECHNIQUE.sub("", line))


def _find_techniques(text: str) -> tuple[Technique, ...]:
    names = (match.lastgroup for match in _TECHNIQUE.finditer(text))
    return tuple(dict.fromkeys(Technique(name) for name in names if name))
