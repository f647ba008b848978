"""The activity log: what happened to which token, message or mailbox. Never a secret, never a mail's content.

One JSON line an event on the logger `mailroom`, which the Functions host sends to Application Insights.
"""

from __future__ import annotations

import json
import logging
from typing import Any

_log = logging.getLogger("mailroom")


def record(event: str, *, warn: bool = False, **facts: Any) -> None:
    """`event` is `noun.verb` in the past tense: token.fetched, mail.sent. `facts` are names, ids, codes, counts and seconds."""
    known = {name: fact for name, fact in facts.items() if fact is not None}
    _log.log(logging.WARNING if warn else logging.INFO, "%s", json.dumps({"event": event, **known}, default=str))
