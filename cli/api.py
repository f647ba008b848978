"""The functions' HTTP API, as a caller uses it: signed in, with errors that say what to do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from mailroom.errors import BadSettings, MailroomError
from mailroom.http import repeated

PAUSES = (1.0, 3.0, 9.0)
AGAIN = frozenset({429, 502, 503, 504})
SHOWN = 200  # characters of an answer that is none of ours


class NoAnswer(MailroomError):
    """Nobody knows what became of the request."""

    retryable = True


class Answered(MailroomError):
    """What the API answered: its own code, detail and next step."""

    def __init__(self, status: int, code: str, detail: str, next_step: str) -> None:
        super().__init__(code, detail, next_step)
        self.status = status
        self.retryable = status in AGAIN


class Api:
    """`token` signs in, anew where `fresh` is asked for. Nothing is called that may not be repeated: POSTs carry an Idempotency-Key."""

    def __init__(self, base: str, client: httpx.AsyncClient, token: Callable[[bool], Awaitable[str]]) -> None:
        self._base = base
        self._client = client
        self._token = token

    async def get(self, path: str) -> dict[str, Any]:
        return _json(await self._call("GET", path, {}, {}, b""))

    async def post(self, path: str, body: bytes, kind: str, key: str, params: Mapping[str, str]) -> dict[str, Any]:
        return _json(await self._call("POST", path, params, {"Content-Type": kind, "Idempotency-Key": key}, body))

    async def do(self, method: str, path: str) -> dict[str, Any]:
        """What is the same done twice, so that it needs no key."""
        return _json(await self._call(method, path, {}, {}, b""))

    async def fetch(self, path: str, params: Mapping[str, str]) -> bytes:
        """What is no JSON object, as it comes."""
        return (await self._call("GET", path, params, {}, b"")).content

    async def upload(self, content: bytes) -> str:
        """Puts it where the API says; the name by which it may be used. No token goes there: the link is the permission."""
        offer = _json(await self._call("POST", "attachments", {}, {}, b""))
        try:
            answer = await repeated(
                lambda: self._client.request(offer["method"], offer["url"], headers=offer["headers"], content=content),
                pauses=PAUSES,
                again=AGAIN,
            )
        except httpx.RequestError as error:
            detail = f"{urlsplit(offer['url']).netloc} did not take the file ({type(error).__name__})."
            raise NoAnswer("upload_failed", detail, "Check the network and the storage account's firewall.") from error
        if not answer.is_success:
            detail = f"{urlsplit(offer['url']).netloc} answered {answer.status_code} to the file."
            raise Answered(answer.status_code, "upload_failed", detail, "Check the storage account's firewall, then repeat the command.")
        return str(offer["blob"])

    async def _call(self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> httpx.Response:
        """A token that is no good any more is one new one and one more try. Raises NoAnswer, Answered, and what signing in raises."""
        answer = await self._ask(method, path, params, headers, body, fresh=False)
        if answer.status_code == 401:
            answer = await self._ask(method, path, params, headers, body, fresh=True)
        if not answer.is_success:
            raise _refusal(answer)
        return answer

    async def _ask(
        self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes, *, fresh: bool
    ) -> httpx.Response:
        signed = {**headers, "Authorization": f"Bearer {await self._token(fresh)}"}
        url = f"{self._base}/{path}"
        try:
            return await repeated(
                lambda: self._client.request(method, url, params=params, headers=signed, content=body), pauses=PAUSES, again=AGAIN
            )
        except httpx.RequestError as error:
            detail = f"{urlsplit(url).netloc} did not answer ({type(error).__name__})."
            raise NoAnswer("functions_unreachable", detail, "Check MAILROOM_URL and the network, then repeat the command.") from error


def base(env: Mapping[str, str]) -> str:
    """MAILROOM_URL, with /api where it has no path. Raises BadSettings."""
    told = env.get("MAILROOM_URL", "").strip().rstrip("/")
    if not told:
        raise BadSettings(["MAILROOM_URL: not set; set the functions' address, such as https://NAME.azurewebsites.net/api"])
    parts = urlsplit(told)
    near = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or not (parts.scheme == "https" or (near and parts.scheme == "http")):
        raise BadSettings([f'MAILROOM_URL: found "{told[:100]}"; should be like https://NAME.azurewebsites.net/api'])
    return told if parts.path else f"{told}/api"


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        return msgspec.json.decode(answer.content, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise _strange(answer) from error


def _refusal(answer: httpx.Response) -> MailroomError:
    try:
        told = msgspec.json.decode(answer.content, type=dict[str, Any])
        return Answered(answer.status_code, str(told["code"]), str(told["detail"]), str(told.get("next_step", "")))
    except (msgspec.DecodeError, KeyError):
        return _strange(answer)


def _strange(answer: httpx.Response) -> Answered:
    """A proxy's page, or another site."""
    said = " ".join(answer.text.split())[:SHOWN]
    detail = f"The functions answered {answer.status_code}: {said}" if said else f"The functions answered {answer.status_code}."
    return Answered(answer.status_code, "answer_unreadable", detail, "Is MAILROOM_URL the address of Mailroom's functions?")
