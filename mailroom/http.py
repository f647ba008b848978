"""One HTTP client for everything: shared TLS context, timeouts, Retry-After, repeating what may be repeated."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from urllib.request import getproxies

import httpx

from mailroom.connections import Connections

_READ = httpx.ByteStream(b"")


@cache
def tls() -> ssl.SSLContext:
    """Building a context costs 20 ms, so there is one. It trusts what OpenSSL trusts: SSL_CERT_FILE and SSL_CERT_DIR count."""
    return ssl.create_default_context()


class _NoCookies(httpx.Cookies):
    """No API that we call needs a cookie, none shall travel from one call to the next, and looking for them is a tenth of its work."""

    def extract_cookies(self, response: httpx.Response) -> None:
        """There are none to keep."""


def new_client(timeout: float = 30.0) -> httpx.AsyncClient:
    """No redirects are followed: no API that we call redirects, and a token must not travel to another host.

    Behind a proxy (HTTPS_PROXY and its like) httpx's own connections go through it.
    """
    own = None if getproxies() else Connections(tls())
    client = httpx.AsyncClient(transport=own, verify=tls(), timeout=httpx.Timeout(timeout, connect=10.0), follow_redirects=False)
    client._cookies = _NoCookies()  # what its own setter is given it copies into a jar that keeps them
    return client


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Seconds to wait, from either form of Retry-After (RFC 9110, 10.2.3); None where there is none or it makes no sense."""
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())


def untrusted(error: BaseException) -> str | None:
    """Why the other side's certificate is not trusted, where that is what a request failed for."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return None


def let_go(response: httpx.Response) -> httpx.Response:
    """Of its stream, once the body is read: the two refer to each other, so both bodies would stay until the garbage collector comes by."""
    response.stream = _READ
    return response


async def repeated(
    ask: Callable[[], Awaitable[httpx.Response]],
    *,
    pauses: Iterable[float],
    again: frozenset[int],
    longest: float = 10.0,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> httpx.Response:
    """Asks until the status is none of `again`, waiting about as long as `pauses` say, or as the answer says unless that is over `longest`.

    The last answer is returned, whatever it is, and the last failure raised. Only for what is as good done twice as once.
    """
    for pause in pauses:
        wait = pause * random.uniform(0.5, 1.5)  # noqa: S311  # spreads the load, keeps no secret
        try:
            response = await ask()
        except httpx.RequestError:
            await sleep(wait)
            continue
        told = retry_after(response.headers) or 0.0
        if response.status_code not in again or told > longest:
            return response
        await sleep(max(wait, told))
    return await ask()
