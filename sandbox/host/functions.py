"""The app's functions, found and called through azure.functions' public API."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import sys
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import azure.functions as func

_log = logging.getLogger("host")
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
            arguments["context"] = Context(self, invocation)
        if inspect.iscoroutinefunction(self.call):
            return await self.call(**arguments)
        return await asyncio.to_thread(self.call, **arguments)


class Context(func.Context):
    def __init__(self, function: Function, invocation: str) -> None:
        self._function = function
        self._invocation = invocation
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
        return None

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
