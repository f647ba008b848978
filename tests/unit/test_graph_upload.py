"""A file on its way through an upload session: in order, in either spelling of the session's answers, and not for ever."""

from __future__ import annotations

import re
from collections.abc import Callable

import httpx
import pytest

from mailroom.errors import NotSent, Refused
from mailroom.providers._graph_plan import CHUNK
from mailroom.providers._graph_upload import PAUSES, upload

SIZE = 2 * CHUNK + 7
URL = "https://outlook.example/api/session?authtoken=secret"
Answer = Callable[[httpx.Request, int], httpx.Response]


class Session:
    """Takes what comes in order; `twist` may answer in its stead. `pauses` are the seconds that were waited."""

    def __init__(self, twist: Callable[[int], httpx.Response | None] = lambda number: None, spelling: str = "{}") -> None:
        self.twist, self.spelling = twist, spelling
        self.data = b""
        self.puts: list[httpx.Request] = []
        self.pauses: list[float] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            self.puts.append(request)
            twisted = self.twist(len(self.puts))
            if twisted is not None:
                return twisted
            found = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", request.headers["Content-Range"])
            assert found
            start, end, size = map(int, found.groups())
            content = await request.aread()
            assert (size, end - start + 1, request.headers["Content-Length"]) == (SIZE, len(content), str(len(content)))
            if start != len(self.data):
                return httpx.Response(400, json={"error": {"code": "ErrorInvalidParameter", "message": "range"}})
            self.data += content
        if len(self.data) == SIZE:
            return httpx.Response(201)
        return httpx.Response(200, json={"ExpirationDateTime": "x", "nextExpectedRanges": [self.spelling.format(len(self.data))]})

    async def run(self) -> None:
        async def read(start: int, length: int) -> bytes:
            return CONTENT[start : start + length]

        async def sleep(seconds: float) -> None:
            self.pauses.append(seconds)

        async with httpx.AsyncClient(transport=httpx.MockTransport(self.answer)) as client:
            await upload(client, URL, SIZE, read, sleep)


CONTENT = (bytes(range(256)) * (SIZE // 256 + 1))[:SIZE]


@pytest.mark.parametrize("spelling", ["{}", "{}-", "{}-99999999"])
async def test_chunks_go_in_order_without_a_token(spelling: str) -> None:
    """Below 4 MB each, whatever way the session writes where to go on; its URL is all the authorization there is."""
    session = Session(spelling=spelling)
    await session.run()
    assert session.data == CONTENT
    assert [int(put.headers["Content-Length"]) for put in session.puts] == [CHUNK, CHUNK, 7]
    assert CHUNK < 4_000_000
    assert not any("authorization" in put.headers for put in session.puts)
    assert session.pauses == []


async def test_a_wish_to_wait_is_respected() -> None:
    """Retry-After counts where it is longer than our own pause."""
    session = Session(lambda number: httpx.Response(429, headers={"Retry-After": "37"}) if number == 2 else None)
    await session.run()
    assert (session.data, session.pauses) == (CONTENT, [37.0])


@pytest.mark.parametrize(
    ("twist", "code", "tries"),
    [
        (lambda number: httpx.Response(500), "upload_failed", len(PAUSES) + 1),
        (lambda number: httpx.Response(200, json={"nextExpectedRanges": ["0"]}), "upload_stuck", len(PAUSES) + 1),
        (lambda number: httpx.Response(404), "upload_ended", 1),
        (lambda number: httpx.Response(429, headers={"Retry-After": "300"}), "upload_failed", 1),
    ],
)
async def test_what_does_not_move_ends(twist: Callable[[int], httpx.Response | None], code: str, tries: int) -> None:
    """A session that is gone, stands still or wants minutes of rest is given up, with what it said; its URL stays out of the error."""
    session = Session(twist)
    with pytest.raises(NotSent) as failed:
        await session.run()
    assert (failed.value.code, len(session.puts)) == (code, tries)
    assert "secret" not in str(failed.value)


async def test_a_no_to_the_mail_is_no_reason_to_wait() -> None:
    """Over the tenant's limit now is over it later."""
    body = {"error": {"code": "ErrorMessageSizeExceeded", "message": "The message exceeds the maximum supported size."}}
    session = Session(lambda number: httpx.Response(400, json=body) if number == 2 else None)
    with pytest.raises(Refused) as refused:
        await session.run()
    assert (refused.value.code, session.pauses) == ("mail_too_large", [])
    assert "MaxSendSize" in refused.value.next_step
