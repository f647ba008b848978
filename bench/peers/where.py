"""What every variant is told, in one environment variable, and the one mail that each sends."""

import json
import os
import sys
from typing import Any

WHERE: dict[str, Any] = json.loads(os.environ.get("BENCH_WHERE", "{}"))
SUBJECT = "Cold start"
TEXT = "Sent by a process that has just been born."
TO = "friend@example.com"


def graph_mail() -> dict[str, Any]:
    return {
        "message": {
            "subject": SUBJECT,
            "body": {"contentType": "Text", "content": TEXT},
            "toRecipients": [{"emailAddress": {"address": TO}}],
        }
    }


def token_form() -> dict[str, str]:
    return {
        "grant_type": "client_credentials",
        "client_id": WHERE["client_id"],
        "client_secret": WHERE["client_secret"],
        "scope": WHERE["graph_scope"],
    }


def accepted() -> None:
    """The parent's clock stops when it reads this line."""
    sys.stdout.write("accepted\n")
    sys.stdout.flush()
