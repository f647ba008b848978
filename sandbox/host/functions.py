"""The app's functions, found and called through azure.functions' public API."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import re
import secrets
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import azure.functions as func

_log = logging.getLogger("host")
PARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context, 3.2.2
TRIGGERS = ("httpTrigger", "queueTrigger", "timerTrigger")


class BadApp(Exception):
    """The app cannot be run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Function:
    """`trigger` is the binding as function.json would have it."""

    name: str
    trigger: dict[str, Any]
    call: Callable[..., Any]
    directory: Path

    @property
    def kind(self) -> str:
        return str(self.trigger["type"])

    async def invoke(self, argument: object, within: float | None = None) -> Any:
        """What the function returns. Whatever it raises is logged and passed on; over `within` seconds it is TimeoutError."""
        invocation, started = str(uuid.uuid4()), time.monotonic()
        try:
            async with asyncio.timeout(within):
                result = await self._run(argument, invocation)
        except (Exception, asyncio.CancelledError) as error:
            _log.error("%s failed after %s (%s)", self.name, _milliseconds(started), invocation, exc_info=error)
            raise
        _log.info("%s succeeded after %s (%s)", self.name, _milliseconds(started), invocation)
        return result

    async def _run(self, argument: object, invocation: str) -> Any:
        arguments = {self.trigger["name"]: argument}
        if "context" in inspect.signature(self.call).parameters:
            arguments["context"] = Context(self, invocation, Trace.of(argument))
        if inspect.iscoroutinefunction(self.call):
            return await self.call(**arguments)
        return await asyncio.to_thread(self.call, **arguments)


@dataclass(frozen=True, slots=True)
class Trace:
    """The operation that an invocation belongs to: its caller's, who named it in the header `traceparent`, else one of its own."""

    trace_parent: str
    trace_state: str = ""
    attributes: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, argument: object) -> Trace:
        found = PARENT.fullmatch(argument.headers.get("traceparent", "")) if isinstance(argument, func.HttpRequest) else None
        return cls(f"00-{found[1] if found else secrets.token_hex(16)}-{secrets.token_hex(8)}-01")


class Context(func.Context):
    def __init__(self, function: Function, invocation: str, trace: Trace) -> None:
        self._function = function
        self._invocation = invocation
        self._trace = trace
        self._local = threading.local()

    @property
    def invocation_id(self) -> str:
        return self._invocation

    @property
    def thread_local_storage(self) -> Any:
        return self._local

    @property
    def function_name(self) -> str:
        return self._function.name

    @property
    def function_directory(self) -> str:
        return str(self._function.directory)

    @property
    def trace_context(self) -> Any:
        return self._trace

    @property
    def retry_context(self) -> Any:
        return None


def load(directory: Path) -> list[Function]:
    """Imports `function_app` from the directory. Raises BadApp, and whatever the app's own code raises."""
    sys.path.insert(0, str(directory))
    module = importlib.import_module("function_app")
    apps = [value for value in vars(module).values() if isinstance(value, func.FunctionApp)]
    if len(apps) != 1:
        raise BadApp(f"function_app.py in {directory} has {len(apps)} FunctionApp objects; it must have one")
    return [_function(found, directory) for found in apps[0].get_functions()]


def _function(found: Any, directory: Path) -> Function:
    """What is no trigger may only be the HTTP answer."""
    name, bindings = found.get_function_name(), json.loads(found.get_function_json())["bindings"]
    triggers = [binding for binding in bindings if binding["type"] in TRIGGERS]
    others = [binding["type"] for binding in bindings if binding not in triggers and binding["type"] != "http"]
    if len(triggers) != 1 or others:
        raise BadApp(f"{name} has the bindings {[b['type'] for b in bindings]}; this host knows {', '.join(TRIGGERS)} and the HTTP answer")
    return Function(name, triggers[0], found.get_user_function(), directory)


def _milliseconds(started: float) -> str:
    return f"{(time.monotonic() - started) * 1000:.0f} ms"
