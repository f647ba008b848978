"""What host.json says (learn.microsoft.com/azure/azure-functions/functions-host-json), as far as this host heeds it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

_TIMESPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2}(?:\.\d{1,7})?))?")


class BadHostJson(ValueError):
    """The message names the setting."""


@dataclass(frozen=True, slots=True)
class Queues:
    """`extensions.queues`. Times are seconds; `visibility_timeout` is how long a failed message stays away, not the lease."""

    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    visibility_timeout: float = 0.0
    max_polling_interval: float = 60.0
    encoding: Literal["base64", "none"] = "base64"

    @classmethod
    def read(cls, values: dict[str, Any]) -> Queues:
        batch_size = int(values.get("batchSize", 16))
        if not 1 <= batch_size <= 32:
            raise BadHostJson(f"extensions.queues.batchSize is {batch_size}; it must be from 1 to 32")
        encoding = str(values.get("messageEncoding", "base64")).lower()
        if encoding not in ("base64", "none"):
            raise BadHostJson(f"extensions.queues.messageEncoding is {encoding!r}; it must be base64 or none")
        return cls(
            batch_size=batch_size,
            new_batch_threshold=int(values.get("newBatchThreshold", batch_size // 2)),
            max_dequeue_count=int(values.get("maxDequeueCount", 5)),
            visibility_timeout=timespan(values.get("visibilityTimeout", "00:00:00")),
            max_polling_interval=max(0.1, timespan(values.get("maxPollingInterval", "00:01:00"))),
            encoding="base64" if encoding == "base64" else "none",
        )


@dataclass(frozen=True, slots=True)
class HostSettings:
    route_prefix: str = "api"
    function_timeout: float | None = None
    queues: Queues = field(default_factory=Queues)

    @classmethod
    def load(cls, file: Path) -> HostSettings:
        """Defaults where there is no such file. Raises BadHostJson."""
        values = json.loads(file.read_text()) if file.exists() else {}
        extensions = values.get("extensions", {})
        timeout = values.get("functionTimeout", "-1")
        return cls(
            route_prefix=extensions.get("http", {}).get("routePrefix", "api").strip("/"),
            function_timeout=None if timeout == "-1" else timespan(timeout),
            queues=Queues.read(extensions.get("queues", {})),
        )


def timespan(text: str) -> float:
    """Seconds of a .NET TimeSpan, `[d.]hh:mm[:ss[.fffffff]]`."""
    found = _TIMESPAN.fullmatch(text)
    if not found:
        raise BadHostJson(f"{text!r} is no time span; write hh:mm:ss")
    days, hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
