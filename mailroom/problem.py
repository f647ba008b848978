"""Errors over HTTP: problem details (RFC 9457) with our stable code, the field and the next step."""

from __future__ import annotations

from typing import Any

from mailroom.errors import BadInput, MailroomError

MEDIA_TYPE = "application/problem+json"


def problem(error: MailroomError, **more: Any) -> dict[str, Any]:
    """The members of the body. `code` is for programs, `detail` and `next_step` for people."""
    body: dict[str, Any] = {"type": f"urn:mailroom:{error.code}", "title": error.code.replace("_", " "), "status": error.status}
    body |= {"code": error.code, "detail": error.detail}
    if error.next_step:
        body["next_step"] = error.next_step
    if isinstance(error, BadInput) and error.field:
        body["field"] = error.field
    return body | more


def headers(error: MailroomError) -> dict[str, str]:
    """Retry-After where there is one to tell, and the challenge that RFC 6750, 3 asks for on a 401."""
    found = {}
    if error.retry_after is not None:
        found["Retry-After"] = str(max(1, round(error.retry_after)))
    if error.status == 401:
        found["WWW-Authenticate"] = f'Bearer error="invalid_token", error_description="{error.code}"'
    return found
