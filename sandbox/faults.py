"""Faults on request: any service of the sandbox can be told to refuse, to fail, to be slow, to hang or to cut the connection.

A fault is struck before the service sees the request, or `after_accepting`: then the service does its work, the work stands, and
only its answer is replaced or lost. `delay` makes the answer late, `lag` the mail itself (its copies show that much later).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.refusals import BODIES

SERVICES = ("graph", "entra", "vault", "identity", "google", "smtp")
STATUSES = ("202", "400", "401", "403", "404", "429", "500", "502", "503", "504", "507")
ANSWERS = (*STATUSES, "hang", "cut", "garbage", "html")
SMTP_ANSWERS = ("hang", "cut", "garbage", "strip")  # besides replies such as "451 4.7.0 Later"; `strip` takes STARTTLS out of EHLO's answer
SMTP_REPLY = re.compile(r"[2345]\d\d( [ -~]*)?")
LAG = "sandbox.lag"


class BadFault(ValueError):
    """`field` is the member of the specification that is wrong."""

    def __init__(self, field: str, found: object, wanted: str) -> None:
        super().__init__(f"{field}: found {found!r}; wanted {wanted}")
        self.field = field


@dataclass
class Fault:
    """`answer` None lets the service's own answer pass (late, or with a lag); `times` None goes on until the faults are cleared."""

    service: str
    path: str = ""
    method: str | None = None
    answer: str | None = None
    after_accepting: bool = False
    retry_after: float | None = None
    times: int | None = None
    delay: float = 0.0
    lag: float = 0.0
    hits: int = 0

    def meets(self, service: str, method: str, path: str) -> bool:
        spent = self.times is not None and self.hits >= self.times
        wanted = self.method is None or self.method.upper() == method
        there = path.lower().startswith(self.path.lower()) if service == "smtp" else self.path.lower() in path.lower()
        return not spent and wanted and service == self.service and there


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "service": (lambda v: v in SERVICES, f"one of {', '.join(SERVICES)}"),
    "path": (_is_text, "part of a path, such as sendMail"),
    "method": (_is_text, "an HTTP method"),
    "answer": (_is_text, f"one of {', '.join(ANSWERS)}; of smtp a reply, or one of {', '.join(SMTP_ANSWERS)}"),
    "after_accepting": (lambda v: isinstance(v, bool), "true or false"),
    "retry_after": (_is_seconds, "seconds"),
    "times": (lambda v: isinstance(v, int) and not isinstance(v, bool) and v > 0, "how often, from 1"),
    "delay": (_is_seconds, "seconds"),
    "lag": (_is_seconds, "seconds"),
}


def fault_from(spec: dict[str, Any]) -> Fault:
    if not isinstance(spec, dict):
        raise BadFault("(body)", spec, "a JSON object")
    values = {name: value for name, value in spec.items() if value is not None}
    if isinstance(values.get("answer"), int):
        values["answer"] = str(values["answer"])
    for name, value in values.items():
        fits, wanted = FIELDS.get(name, (None, f"one of the fields {', '.join(FIELDS)}"))
        if fits is None or not fits(value):
            raise BadFault(name, value, wanted)
    if "service" not in values:
        raise BadFault("service", None, FIELDS["service"][1])
    if not {"answer", "delay", "lag"} & values.keys():
        raise BadFault("answer", None, FIELDS["answer"][1])
    if "answer" in values and not _answers(values["service"], values["answer"]):
        raise BadFault("answer", values["answer"], FIELDS["answer"][1])
    return Fault(**values)


def _answers(service: str, answer: str) -> bool:
    return answer in SMTP_ANSWERS or SMTP_REPLY.fullmatch(answer) is not None if service == "smtp" else answer in ANSWERS


class Faults:
    """What is to go wrong, first come first struck. Clearing ends what hangs and what is late, so clear before the servers stop."""

    def __init__(self) -> None:
        self.all: list[Fault] = []
        self.cleared = asyncio.Event()

    def add(self, spec: dict[str, Any]) -> Fault:
        """Raises BadFault."""
        fault = fault_from(spec)
        self.all.append(fault)
        return fault

    def clear(self) -> None:
        self.all.clear()
        self.cleared.set()
        self.cleared = asyncio.Event()

    def strike(self, service: str, method: str, path: str) -> Fault | None:
        """The fault that this request meets; it counts as a hit."""
        fault = next((fault for fault in self.all if fault.meets(service, method, path)), None)
        if fault:
            fault.hits += 1
        return fault


class FaultMiddleware:
    """Outermost around a service, so that an answer that it loses is really lost."""

    def __init__(self, app: ASGIApp, faults: Faults, service: str) -> None:
        self.app = app
        self.faults = faults
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self.faults.strike(self.service, scope["method"], scope["path"]) if scope["type"] == "http" else None
        if fault is None:
            await self.app(scope, receive, send)
        else:
            cleared = self.faults.cleared  # as it is now: the faults may be cleared before this one is struck
            own = await self._own_answer(fault, scope, receive)
            await _late(fault.delay, cleared)
            await self._strike(fault, own, cleared, receive, send)

    async def _own_answer(self, fault: Fault, scope: Scope, receive: Receive) -> _Answer:
        own = _Answer()
        if fault.answer in (None, "202") or fault.after_accepting:
            await self.app({**scope, LAG: fault.lag}, receive, own)
        else:
            await _drain(receive)
        return own

    async def _strike(self, fault: Fault, own: _Answer, cleared: asyncio.Event, receive: Receive, send: Send) -> None:
        if fault.answer is None or (fault.answer == "202" and own.status >= 400):
            await own.pass_on(send)
        elif fault.answer == "hang":
            await _hang(receive, cleared)
        elif fault.answer == "cut":
            await cut(receive)
        else:
            await _answer(fault, send)


class _Answer:
    """An answer kept back."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"]) if self.messages else 0

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    async def pass_on(self, send: Send) -> None:
        for message in self.messages:
            await send(message)


async def _drain(receive: Receive, until: str = "http.request") -> None:
    """Takes the whole body, as a service would before it answers."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or (message["type"] == until and not message.get("more_body", False)):
            return


async def _late(seconds: float, cleared: asyncio.Event) -> None:
    if seconds:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(cleared.wait(), seconds)


async def _hang(receive: Receive, cleared: asyncio.Event) -> None:
    """Until the client goes, or the faults are cleared."""
    gone = asyncio.ensure_future(_drain(receive, until="http.disconnect"))
    over = asyncio.ensure_future(cleared.wait())
    await asyncio.wait({gone, over}, return_when=asyncio.FIRST_COMPLETED)
    await _stop(gone, over)
    if over.done() and not over.cancelled():
        await cut(receive)


async def _stop(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def cut(receive: Receive) -> None:
    """Closes the connection under the request. ASGI has no word for it, so this reaches for the transport that uvicorn holds."""
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is None:
        raise ConnectionAbortedError("cut on request")
    transport.abort()
    await _drain(receive, until="http.disconnect")


async def _answer(fault: Fault, send: Send) -> None:
    status, kind, body = _content(fault)
    headers = [(b"content-type", kind), (b"content-length", str(len(body)).encode())]
    if fault.retry_after is not None:
        headers.append((b"retry-after", f"{fault.retry_after:g}".encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _content(fault: Fault) -> tuple[int, bytes, bytes]:
    if fault.answer == "garbage":
        return 200, b"application/json", b'\x00\xfe{"value": [not json'
    if fault.answer == "html":
        return 502, b"text/html", b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
    if fault.answer == "202":
        return 202, b"text/plain", b""
    body = BODIES[fault.service](str(fault.answer))
    return int(fault.answer or 0), b"application/json", json.dumps(body).encode()
