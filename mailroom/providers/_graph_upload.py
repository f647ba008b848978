"""Brings one file to a draft, chunk after chunk, over an upload session.

learn.microsoft.com/graph/outlook-large-attachments. The session's URL is its own authorization. A chunk may go again: the session knows how
far it has come, and says so in every answer, in one of two spellings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from mailroom.errors import NotSent, ProviderError, Refused
from mailroom.http import retry_after
from mailroom.providers import _graph_answers as answers
from mailroom.providers._graph_plan import CHUNK

PIECE = 128 * 1024  # bytes that are on their way to the socket at a time
PAUSES = (0.5, 1.0, 2.0, 5.0, 10.0)  # seconds before the next try, as long as nothing moves
LONGEST = 120.0  # a throttled mailbox may ask for 5 minutes: then the lane waits, not we
ENDED = frozenset({404, 410})

Read = Callable[[int, int], Awaitable[bytes]]


async def upload(client: httpx.AsyncClient, url: str, size: int, read: Read, sleep: Callable[[float], Awaitable[None]]) -> None:
    """`read` gives so many bytes from an offset on: no more of the file is ever in memory than one chunk. Raises NotSent or Refused."""
    at, pauses = 0, iter(PAUSES)
    while at < size:
        outcome = await _put(client, url, at, await read(at, min(CHUNK, size - at)), size)
        if isinstance(outcome, int) and outcome > at:
            at, pauses = outcome, iter(PAUSES)
            continue
        pause = await _pause(outcome, next(pauses, None))
        await sleep(pause)
        at = await _reached(client, url, at)


async def _put(client: httpx.AsyncClient, url: str, at: int, chunk: bytes, size: int) -> int | ProviderError:
    """Where the session wants to go on, or what went wrong."""
    end = at + len(chunk)
    headers = {"Content-Length": str(len(chunk)), "Content-Range": f"bytes {at}-{end - 1}/{size}"}
    try:
        answer = await client.put(url, content=_pieces(chunk), headers=headers | {"Content-Type": "application/octet-stream"})
    except httpx.RequestError as error:
        return NotSent("upload_failed", f"A part of an attachment was not answered ({type(error).__name__}).")
    if answer.status_code == 201:
        return size
    if answer.is_success:
        told = answers.next_offset(answer.content)
        return end if told is None else told
    refusal = answers.is_no(answer.status_code, answer.content)
    what = f"Graph answered {answer.status_code} to a part of an attachment."
    code = "upload_ended" if answer.status_code in ENDED else "upload_failed"
    return refusal or NotSent(code, what, retry_after=retry_after(answer.headers))


async def _pieces(chunk: bytes) -> AsyncIterator[bytes]:
    """As a whole it would be copied for TLS, and again for a socket that takes no more."""
    for at in range(0, len(chunk), PIECE):
        yield chunk[at : at + PIECE]


async def _pause(outcome: int | ProviderError, pause: float | None) -> float:
    """Raises what went wrong where waiting is no use, or was tried enough."""
    wrong = NotSent("upload_stuck", f"The upload does not get beyond byte {outcome}.") if isinstance(outcome, int) else outcome
    told = wrong.retry_after or 0.0
    if pause is None or told > LONGEST or isinstance(wrong, Refused) or wrong.code == "upload_ended":
        raise wrong
    return max(pause, told)


async def _reached(client: httpx.AsyncClient, url: str, at: int) -> int:
    """How far the session has come, for the answer to the last chunk is lost; where it does not say, the chunk goes again."""
    try:
        answer = await client.get(url)
    except httpx.RequestError:
        return at
    told = answers.next_offset(answer.content) if answer.is_success else None
    return at if told is None else told
