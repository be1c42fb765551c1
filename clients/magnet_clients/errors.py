"""Every error that the clients raise on purpose.

    ClientError                exit 1
    ├── UsageError             exit 2: something was given that cannot be used
    ├── ServerLostError        the server cannot be reached, or no longer
    └── ToolFailedError        a tool refused, in its own words
        └── SessionLostError   whoever wrote a session was lost, again and again

A message says what happened, with what, and what to do.
"""

from typing import cast


class ClientError(Exception):
    """Base of the tree above."""

    exit_code = 1


class UsageError(ClientError):
    """Something was given that cannot be used."""

    exit_code = 2


class ServerLostError(ClientError):
    """The server cannot be reached, or no longer."""


class ToolFailedError(ClientError):
    """A tool refused, in its own words; `kind` is the short name that failures.jsonl carries."""

    kind = "request"


class SessionLostError(ToolFailedError):
    """Whoever wrote a session was lost, again and again."""

    kind = "lost"


def root_of(error: BaseException) -> BaseException:
    """Return the error that a group is about: the first of ours in it, else the first of all."""
    leaves = _leaves(error)
    return next((leaf for leaf in leaves if isinstance(leaf, ClientError)), leaves[0])


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for inner in group.exceptions for leaf in _leaves(inner)]
