"""Sends a large mail by a resumable upload: developers.google.com/gmail/api/guides/uploads.

Gmail sends it once its last byte has come. So a failure on the way to the last chunk is no doubt: nothing was sent.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx

from mailroom.errors import DeliveryInDoubt, NotSent, ProviderError
from mailroom.http import let_go
from mailroom.model.account import Account
from mailroom.model.message import Receipt
from mailroom.model.token import Token
from mailroom.providers import _gmail_answers as answers
from mailroom.providers import _gmail_json as json
from mailroom.providers._gmail_wire import address, authorized

CHUNK = 8 * 1024 * 1024  # a multiple of 256 KiB
PATH = "upload"


async def upload(client: httpx.AsyncClient, account: Account, content: bytes, thread: str | None, token: Token) -> Receipt | ProviderError:
    try:
        where = await _begun(client, account, len(content), thread, token)
    except httpx.RequestError as error:
        return answers.unanswered(error)
    if isinstance(where, ProviderError):
        return where
    last = (len(content) - 1) // CHUNK * CHUNK
    for first in range(0, last, CHUNK):
        failed = await _more(client, where, content, first, token)
        if failed:
            return failed
    return await _ended(client, where, content, last, token)


async def _begun(client: httpx.AsyncClient, account: Account, size: int, thread: str | None, token: Token) -> str | ProviderError:
    """The session's URL. Our token goes there too, so it must be Gmail's."""
    url = address(account, "/messages/send?uploadType=resumable", prefix="/upload")
    headers = {"X-Upload-Content-Type": "message/rfc822", "X-Upload-Content-Length": str(size), "Content-Type": "application/json"}
    answer = let_go(await client.post(url, content=json.upload_body(thread), headers=authorized(token) | headers))
    failed = answers.to_send(answer.status_code, answer.headers, answer.content)
    if failed:
        return _surely_unsent(failed)
    where = answer.headers.get("Location", "")
    if urlsplit(where)[:2] != urlsplit(url)[:2]:
        return NotSent("answer_unreadable", "Gmail's answer to the beginning of an upload names no address of its own.")
    return str(where)


async def _more(client: httpx.AsyncClient, where: str, content: bytes, first: int, token: Token) -> ProviderError | None:
    """A chunk that is not the last."""
    try:
        answer = await _put(client, where, content, first, token)
    except httpx.RequestError as error:
        return answers.unanswered(error)
    if answer.status_code == 308:
        return None
    failed = answers.to_send(answer.status_code, answer.headers, answer.content)
    return _surely_unsent(failed or NotSent("answer_unclear", "Gmail answered 200 to a part of a mail."))


async def _ended(client: httpx.AsyncClient, where: str, content: bytes, first: int, token: Token) -> Receipt | ProviderError:
    """The last chunk: with it the mail goes."""
    try:
        answer = await _put(client, where, content, first, token)
    except httpx.RequestError as error:
        return answers.unsent(error)
    why = f"{len(content)} bytes are more than one request should carry ({json.SIMPLE_LIMIT})"
    return receipt(answer, PATH, why)


async def _put(client: httpx.AsyncClient, where: str, content: bytes, first: int, token: Token) -> httpx.Response:
    chunk = memoryview(content)[first : first + CHUNK]
    headers = {"Content-Range": f"bytes {first}-{first + len(chunk) - 1}/{len(content)}", "Content-Type": "message/rfc822"}
    return let_go(await client.put(where, content=bytes(chunk), headers=authorized(token) | headers))


def receipt(answer: httpx.Response, path: str, why: str) -> Receipt | ProviderError:
    """What became of a mail that was sent with this request; `why` it went this way."""
    failed = answers.to_send(answer.status_code, answer.headers, answer.content)
    if failed:
        return failed
    try:
        return Receipt(path, answers.found(answer.content, answers.Sent).id, why=why)
    except NotSent as error:
        return DeliveryInDoubt("answer_unclear", error.detail)


def _surely_unsent(failed: ProviderError) -> ProviderError:
    if isinstance(failed, DeliveryInDoubt):
        return NotSent(failed.code, failed.detail, failed.next_step, retry_after=failed.retry_after)
    return failed
