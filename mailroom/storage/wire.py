"""One call to the storage account: signed, timed, repeated where that is safe, its failure said in our own errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate

import httpx
import msgspec

from mailroom.errors import MailroomError, StorageDown, TooLarge
from mailroom.http import let_go, repeated, retry_after
from mailroom.storage.changes import error_code
from mailroom.storage.clock import StorageClock
from mailroom.storage.signing import Authorize

VERSION = "2020-12-06"  # the first whose tables take bearer tokens
PAUSES = (0.2, 0.5)
LONGEST_PAUSE = 5.0
TIMEOUT = httpx.Timeout(15.0, connect=5.0).as_dict()

_AGAIN = frozenset({429, 500, 502, 503, 504})
_MISSING = frozenset({"ContainerNotFound", "QueueNotFound", "TableNotFound"})
_TOO_LARGE = frozenset({"EntityTooLarge", "PropertyValueTooLarge", "RequestBodyTooLarge"})
_ROLES = {
    "blob": "Storage Blob Data Contributor",
    "queue": "Storage Queue Data Contributor",
    "table": "Storage Table Data Contributor",
}


class Call(msgspec.Struct, frozen=True):
    """`what` names the operation in errors; `place` is the container, queue or table, made when it is missing and `makes` is set.

    `repeats` says that doing it twice is as good as once. `expected` are statuses, besides those of success, that the caller reads.
    """

    what: str
    service: str
    place: str
    method: str
    path: str
    headers: dict[str, str] = {}
    body: bytes = b""
    expected: frozenset[int] = frozenset()
    repeats: bool = False
    makes: bool = False


class Wire:
    """`bases` are the services' URLs, without a slash at their end."""

    def __init__(
        self,
        bases: dict[str, str],
        client: httpx.AsyncClient,
        authorize: Authorize,
        clock: StorageClock,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bases = bases
        self._client = client
        self._authorize = authorize
        self._clock = clock
        self._sleep = sleep
        self._monotonic = monotonic

    def base(self, service: str) -> str:
        return self._bases[service]

    async def call(self, call: Call) -> httpx.Response:
        response = await self._answer(call)
        if response.status_code == 404 and call.makes and code_of(response) in _MISSING:
            await self.make(call.service, call.place)
            response = await self._answer(call)
        if response.is_success or response.status_code in call.expected:
            return response
        raise _failure(call, response)

    async def make(self, service: str, place: str) -> None:
        """A container, queue or table. Who finds it there already is as glad."""
        what = f"create {service} store"
        match service:
            case "table":
                headers = {"accept": "application/json;odata=nometadata", "content-type": "application/json", "prefer": "return-no-content"}
                body = msgspec.json.encode({"TableName": place})
                call = Call(what, service, place, "POST", "/Tables", headers, body)
            case "blob":
                call = Call(what, service, place, "PUT", f"/{place}?restype=container")
            case _:
                call = Call(what, service, place, "PUT", f"/{place}")
        response = await self._answer(msgspec.structs.replace(call, repeats=True))
        if not response.is_success and not code_of(response).endswith("AlreadyExists"):
            raise _failure(call, response)

    async def _answer(self, call: Call) -> httpx.Response:
        pauses = PAUSES if call.repeats else ()
        try:
            return await repeated(lambda: self._send(call), pauses=pauses, again=_AGAIN, longest=LONGEST_PAUSE, sleep=self._sleep)
        except httpx.TimeoutException as error:
            raise StorageDown("storage_down", f"{call.what} on {call.place} was not answered in time.") from error
        except httpx.RequestError as error:  # its own text may hold an address; its kind is enough
            raise StorageDown("storage_down", f"{call.what} on {call.place} got no answer ({type(error).__name__}).") from error

    async def _send(self, call: Call) -> httpx.Response:
        url = httpx.URL(self._bases[call.service] + call.path)
        headers = {**call.headers, "x-ms-date": formatdate(usegmt=True), "x-ms-version": VERSION}
        target = url.raw_path.decode("ascii")
        headers["authorization"] = await self._authorize(call.service, call.method, target, headers, len(call.body))
        # a request made here, not by the client, skips the merging of defaults, cookies and parameters that we have none of
        request = httpx.Request(call.method, url, headers=headers, content=call.body, extensions={"timeout": TIMEOUT})
        sent = self._monotonic()
        response = let_go(await self._client.send(request))
        self._clock.saw(response.headers.get("date"), sent, self._monotonic())
        return response


def code_of(response: httpx.Response) -> str:
    """Blobs and queues say their error code in a header, tables only in the body."""
    code: str = response.headers.get("x-ms-error-code", "")
    return code or error_code(response.content)


def failure(call: Call, status: int, code: str, wait: float | None = None) -> MailroomError:
    """What a refusal means to whoever asked; it names the operation and the place, nothing of what was in it."""
    what = f"{call.what} on {call.place}"
    if status == 413 or code in _TOO_LARGE:
        return TooLarge("storage_too_large", f"{what}: this is more than storage takes ({code}).", "Send less in one piece.")
    if status in (401, 403):
        return StorageDown(
            "storage_forbidden",
            f"{what} was refused with {status} {code}.",
            f"Give the app's identity the role {_ROLES[call.service]!r} on the storage account (a new role needs some minutes), and see "
            "that the account's network rules let the app in. With a connection string: check its AccountKey and this machine's clock.",
        )
    return StorageDown("storage_down", f"{what} was answered with {status} {code}".rstrip() + ".", retry_after=wait)


def unreadable(call: Call) -> StorageDown:
    """An answer that says nothing, as of a proxy: what became of the call is unknown."""
    return StorageDown("storage_down", f"{call.what} on {call.place} was answered with what storage does not answer.")


def _failure(call: Call, response: httpx.Response) -> MailroomError:
    return failure(call, response.status_code, code_of(response), retry_after(response.headers))
