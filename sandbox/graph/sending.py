"""sendMail, send, and replies: learn.microsoft.com/graph/api/user-sendmail, message-send, message-reply, message-createreply."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

from sandbox.graph import drafts
from sandbox.graph.call import Answer, Call
from sandbox.graph.errors import GraphError, bad_request
from sandbox.graph.items import Item, address_of
from sandbox.graph.post import finish

ACCEPTED = Answer(202)


async def send_mail(call: Call) -> Answer:
    keep = True
    if call.content_type == "text/plain":
        item = drafts.from_mime(call)
    else:
        body = call.json("sendMail")
        if body.get("message") is None:
            raise bad_request("The parameter 'Message' is missing from the request payload.", "ErrorInvalidParameter")
        keep = body.get("saveToSentItems") is not False
        item = drafts.from_json(call, body["message"])
    _submit(call, item, keep=keep, fresh=True)
    return ACCEPTED


async def send(call: Call) -> Answer:
    item = call.item()
    if not item.props["isDraft"] or item.folder.well_known == "outbox":
        raise bad_request("The operation can't be performed on an item that is no draft.", "ErrorInvalidOperation")
    _submit(call, item)
    return ACCEPTED


def reply(*, to_all: bool) -> Callable[[Call], Any]:
    async def handle(call: Call) -> Answer:
        _submit(call, _reply(call, to_all=to_all), fresh=True)
        return ACCEPTED

    return handle


def create_reply(*, to_all: bool) -> Callable[[Call], Any]:
    async def handle(call: Call) -> Answer:
        return _created(call, _reply(call, to_all=to_all))

    return handle


async def forward(call: Call) -> Answer:
    _submit(call, _forward(call), fresh=True)
    return ACCEPTED


async def create_forward(call: Call) -> Answer:
    return _created(call, _forward(call))


def _submit(call: Call, item: Item, *, keep: bool = True, fresh: bool = False) -> None:
    try:
        drafts.ready(call, item)
    except GraphError:
        if fresh:  # what was refused leaves nothing behind
            call.box.purge(item)
        raise
    call.office.accept(call.box, item, keep=keep, lag=call.lag)


def _created(call: Call, item: Item) -> Answer:
    shown = {"@odata.context": call.context("messages/$entity"), **call.show(item)}
    return Answer(201, shown, {"Location": f"{call.here}/messages('{shown['id']}')"})


def _reply(call: Call, *, to_all: bool) -> Item:
    """To whom the original wants its replies."""
    original = call.item()
    people = original.props.get("replyTo") or [one for one in (original.props.get("from"),) if one]
    others: list[dict[str, Any]] = []
    if to_all:
        own = {call.box.address.lower(), *(address_of(one).lower() for one in people)}
        others = [one for one in original.props.get("toRecipients", []) if address_of(one).lower() not in own]
        others += [one for one in original.props.get("ccRecipients", []) if address_of(one).lower() not in own]
    return _answering(call, "reply", original, "RE: ", {"toRecipients": people, "ccRecipients": others})


def _forward(call: Call) -> Item:
    original = call.item()
    item = _answering(call, "forward", original, "FW: ", {})
    item.attachments = [*original.attachments, *item.attachments]
    return item


def _answering(call: Call, kind: str, original: Item, prefix: str, people: dict[str, Any]) -> Item:
    body = call.json(kind) if call.body.strip() else {}
    message = body.get("message") or {}
    if body.get("comment") is not None and message.get("body") is not None:
        raise bad_request("Comment and Body can't both be specified.", "ErrorInvalidParameter")
    subject = original.props.get("subject") or ""
    titled = subject if subject.upper().startswith(prefix.strip()) else prefix + subject
    quoted = message.get("body") or _quoted(original, body.get("comment") or "")
    own = {"toRecipients": body["toRecipients"]} if body.get("toRecipients") is not None else {}
    item = drafts.from_json(call, {"subject": titled, **people, **own, **message, "body": quoted})
    _thread(call, item, original)
    return item


def _thread(call: Call, item: Item, original: Item) -> None:
    before = str(original.props.get("internetMessageId") or "")
    chain = next((value for name, value in original.headers if name.lower() == "references"), "")
    item.headers += [("In-Reply-To", before), ("References", f"{chain} {before}".strip())]
    item.props["conversationId"] = original.props["conversationId"]
    finish(call.box, item)


def _quoted(original: Item, comment: str) -> dict[str, str]:
    content = original.props["body"]["content"]
    old = content if original.props["body"]["contentType"] == "html" else f"<pre>{html.escape(content)}</pre>"
    who, what = html.escape(address_of(original.props.get("from"))), html.escape(original.props.get("subject") or "")
    head = f"<hr><p><b>From:</b> {who}<br><b>Subject:</b> {what}</p>"
    return {"contentType": "html", "content": f"<html><body><p>{html.escape(comment)}</p>{head}{old}</body></html>"}
