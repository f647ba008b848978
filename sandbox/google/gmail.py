"""The Gmail API, version 1: developers.google.com/gmail/api/reference/rest. Uploads are `uploads.py`'s."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.faults import LAG
from sandbox.google import search
from sandbox.google.access import READING, SENDING, mailbox_of
from sandbox.google.errors import bad, not_found, too_large
from sandbox.google.mailbox import HIDDEN, SYSTEM_LABELS, Mail, Mailbox
from sandbox.google.post import PostOffice

LARGEST = 5 * 1024 * 1024  # bytes of a request that is no upload
FORMATS = ("minimal", "full", "raw", "metadata")


class Gmail:
    def __init__(self, office: PostOffice) -> None:
        self.office = office

    def routes(self) -> list[Route]:
        users = "/gmail/v1/users/{user}"
        return [
            Route(f"{users}/messages/send", self.send, methods=["POST"]),
            Route(f"{users}/messages", self.list),
            Route(f"{users}/messages/{{id}}", self.get),
            Route(f"{users}/history", self.history),
            Route(f"{users}/labels", self.labels),
            Route(f"{users}/profile", self.profile),
        ]

    async def send(self, request: Request) -> Response:
        box = mailbox_of(self.office, request, SENDING)
        body = await request.body()
        if len(body) > LARGEST:
            raise too_large()
        asked = json_object(body)
        try:
            raw = base64.urlsafe_b64decode(str(asked.get("raw") or "") + "==")
        except (binascii.Error, ValueError) as error:
            raise bad("Invalid value at 'message.raw' (TYPE_BYTES), Base64 decoding failed") from error
        if not raw:
            raise bad("'raw' RFC822 payload message string or uploading message via /upload/* URL required")
        return sent(self.office.accept(box, raw, asked.get("threadId"), request.scope.get(LAG, 0.0)))

    async def list(self, request: Request) -> Response:
        box, query = mailbox_of(self.office, request, READING), request.query_params
        labels = set(query.getlist("labelIds"))
        _check_labels(box, labels)
        matches = search.matcher(query.get("q", ""))
        hidden = HIDDEN - labels if query.get("includeSpamTrash", "") != "true" else frozenset()
        found = [mail for mail in box.newest_first() if labels <= mail.labels and not mail.labels & hidden and matches(mail)]
        page, more = _page(request, found, 100)
        body: dict[str, Any] = {"resultSizeEstimate": len(found)} | more
        return JSONResponse(body | ({"messages": [_ref(mail) for mail in page]} if page else {}))

    async def get(self, request: Request) -> Response:
        box = mailbox_of(self.office, request, READING)
        mail = box.mails.get(request.path_params["id"])
        form = request.query_params.get("format", "full")
        if mail is None:
            raise not_found()
        if form not in FORMATS:
            raise bad(f"Invalid value at 'format': {form}")
        return JSONResponse(_shown(mail, form, request.query_params.getlist("metadataHeaders")))

    async def history(self, request: Request) -> Response:
        box, query = mailbox_of(self.office, request, READING), request.query_params
        start = query.get("startHistoryId", "")
        if not start.isdigit():
            raise bad("Invalid value at 'start_history_id'")
        if not box.oldest <= int(start) <= box.count:
            raise not_found()
        kinds, label = set(query.getlist("historyTypes")), query.get("labelId")
        found = [one for one in box.changes if one.id > int(start) and (not kinds or one.kind in kinds)]
        found = [one for one in found if label is None or label in one.mail.labels]
        page, more = _page(request, found, 100)
        body: dict[str, Any] = {"historyId": str(box.count)} | more
        return JSONResponse(body | ({"history": [_changed(one) for one in page]} if page else {}))

    async def labels(self, request: Request) -> Response:
        box = mailbox_of(self.office, request, READING)
        known = [{"id": name, "name": name, "type": "system"} for name in SYSTEM_LABELS]
        return JSONResponse({"labels": known + [{"id": key, "name": name, "type": "user"} for key, name in box.labels.items()]})

    async def profile(self, request: Request) -> Response:
        box = mailbox_of(self.office, request, READING)
        total = len(box.mails)
        threads = len({mail.thread for mail in box.mails.values()})
        return JSONResponse({"emailAddress": box.address, "messagesTotal": total, "threadsTotal": threads, "historyId": str(box.count)})


def sent(mail: Mail) -> Response:
    return JSONResponse({"id": mail.id, "threadId": mail.thread, "labelIds": sorted(mail.labels)})


def json_object(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body or b"{}")
    except ValueError as error:
        raise bad("Invalid JSON payload received.") from error
    if not isinstance(asked, dict):
        raise bad("Invalid JSON payload received.")
    return asked


def _check_labels(box: Mailbox, labels: Iterable[str]) -> None:
    for label in labels:
        if label not in SYSTEM_LABELS and label not in box.labels:
            raise bad(f"Invalid label: {label}")


def _page(request: Request, found: list[Any], usual: int) -> tuple[list[Any], dict[str, str]]:
    """A page token is good for the very same question only, which nobody checks here but the signature in it."""
    size = min(int(request.query_params.get("maxResults", usual)), 500)
    signature = str(sum(map(ord, str(sorted((k, v) for k, v in request.query_params.multi_items() if k != "pageToken")))))
    token = request.query_params.get("pageToken")
    offset, _, asked = (token or f"0.{signature}").partition(".")
    if asked != signature or not offset.isdigit():
        raise bad("Invalid pageToken")
    at = int(offset)
    more = {"nextPageToken": f"{at + size}.{signature}"} if at + size < len(found) else {}
    return found[at : at + size], more


def _ref(mail: Mail) -> dict[str, Any]:
    return {"id": mail.id, "threadId": mail.thread}


def _shown(mail: Mail, form: str, names: Iterable[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {
        **_ref(mail),
        "labelIds": sorted(mail.labels),
        "snippet": "",
        "historyId": str(mail.history),
        "internalDate": str(mail.date),
        "sizeEstimate": len(mail.raw),
    }
    if form == "raw":
        return facts | {"raw": base64.urlsafe_b64encode(mail.raw).decode()}
    if form == "minimal":
        return facts
    wanted = {name.lower() for name in names}
    headers = [{"name": name, "value": str(value)} for name, value in mail.head.items() if not wanted or name.lower() in wanted]
    return facts | {"payload": {"mimeType": mail.head.get_content_type(), "headers": headers}}


def _changed(change: Any) -> dict[str, Any]:
    message = _ref(change.mail) | {"labelIds": sorted(change.mail.labels)}
    entry: dict[str, Any] = {"id": str(change.id), "messages": [_ref(change.mail)]}
    if change.kind == "messageAdded":
        return entry | {"messagesAdded": [{"message": message}]}
    return entry | {"labelsAdded": [{"message": message, "labelIds": sorted(change.labels)}]}
