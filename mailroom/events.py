"""The activity log: what happened to which token, message or mailbox. Never a secret, never a mail's content.

One JSON line an event on the logger `mailroom`, which the Functions host sends to Application Insights. docs/events.md lists them all.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Protocol

_log = logging.getLogger("mailroom")
_around: ContextVar[Mapping[str, Any]] = ContextVar("_around", default=MappingProxyType({}))
_ids: ContextVar[dict[str, str] | None] = ContextVar("_ids", default=None)


class Invocation(Protocol):
    """What of a function's context is told (azure.functions.Context). Where the host traces nothing it has no `trace_context`."""

    @property
    def invocation_id(self) -> str: ...

    @property
    def function_name(self) -> str: ...

    @property
    def trace_context(self) -> Any: ...


def record(event: str, *, warn: bool = False, **facts: Any) -> None:
    """`event` is `noun.verb` in the past tense: token.fetched, mail.sent. `facts` are names, ids, codes, counts and seconds."""
    known = {name: fact for name, fact in facts.items() if fact is not None}
    _log.log(logging.WARNING if warn else logging.INFO, "%s", json.dumps({"event": event, **known, **_around.get()}, default=str))


@contextmanager
def during(context: Invocation) -> Iterator[None]:
    """Every event in here, and in the tasks and threads that begin here, names the function and its invocation.

    `traceparent` (W3C Trace Context, 3.2) is the operation that Application Insights puts the invocation in.
    """
    parent = getattr(context.trace_context, "trace_parent", None)
    facts = {"function": context.function_name, "invocation": context.invocation_id} | ({"traceparent": parent} if parent else {})
    before = _around.set(facts)
    try:
        yield
    finally:
        _around.reset(before)


@contextmanager
def answered_by() -> Iterator[dict[str, str]]:
    """The ids by which the other side knows the last request in here, as `answered` was told them: for whoever asks its operator."""
    ids: dict[str, str] = {}
    before = _ids.set(ids)
    try:
        yield ids
    finally:
        _ids.reset(before)


def answered(**ids: str | None) -> None:
    """An answer that names its request, or a request that names itself. What another one said before is forgotten."""
    noted = _ids.get()
    if noted is not None:
        noted.clear()
        noted.update({name: value[:100] for name, value in ids.items() if value})
