"""The wire to an authority, for msal to use: one TLS trust with everything else, timeouts, no repeats, failures as our own errors.

msal never sees a failure, so it neither logs the answer's text nor replays it from memory for the next 60 seconds.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec

from mailroom import http
from mailroom.credentials import _aadsts
from mailroom.errors import AccountFault, AuthorityDown, AuthorityRefused
from mailroom.events import answered

SKEW_TOLD = 30.0
_FEWER = "It is asked again when that time is over; if this lasts, look for other programs that sign in with the same client id."
_PROXY = (
    "This passes by itself; if it lasts, see what stands between the app and the authority: a proxy or a firewall answers in its place."
)
_TRACE = re.compile(r"\s*Trace ID:.*", re.DOTALL)
_NUMBER = re.compile(r"AADSTS(\d+)")


class _Refusal(msgspec.Struct, frozen=True):
    """RFC 6749, 5.2, and what Entra adds."""

    error: str = ""
    error_description: str = ""
    error_codes: list[int] = []
    trace_id: str = ""
    correlation_id: str = ""


class Wire:
    """What msal takes for its `http_client`: get, post and close. For one thread.

    Connections live as long as one `with`, for tokens are asked for seldom; a second `with` meanwhile would close those of the first.
    """

    def __init__(self, timeout: float, *, tls: Callable[[], ssl.SSLContext] = http.tls, now: Callable[[], float] = time.time) -> None:
        self._timeout = timeout
        self._tls = tls
        self._now = now

    def __enter__(self) -> Wire:
        self._client = httpx.Client(verify=self._tls(), timeout=self._timeout, follow_redirects=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, url: str, params: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None, **_: Any) -> httpx.Response:
        return self._answer("GET", url, params=params, headers=headers)

    def post(
        self,
        url: str,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str | bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        **_: Any,
    ) -> httpx.Response:
        # msal's assertions are bytes, which requests sends as they are and httpx as their repr
        form = {name: value.decode() if isinstance(value, bytes) else value for name, value in (data or {}).items()}
        return self._answer("POST", url, params=params, headers=headers, data=form)

    def close(self) -> None:
        """msal's to call; here the `with` closes."""

    def _answer(self, method: str, url: str, **options: Any) -> httpx.Response:
        asked_as = (options.get("headers") or {}).get("client-request-id")  # msal's; the authority calls it correlation id
        answered(correlation_id=asked_as)
        try:
            response = self._client.request(method, url, **options)
        except httpx.TimeoutException as error:
            raise AuthorityDown("authority_timeout", f"{host(url)} did not answer in time.") from error
        except httpx.RequestError as error:  # its own text may hold an address; its kind is enough
            raise AuthorityDown("authority_down", f"{host(url)} could not be reached ({type(error).__name__}).") from error
        answered(trace_id=response.headers.get("x-ms-request-id"), correlation_id=response.headers.get("client-request-id", asked_as))
        if failed := failure(response, self._now()):
            raise failed
        return response


def failure(response: httpx.Response, now: float) -> AccountFault | None:
    """What an answer means that is no good one; None for a JSON object with status 200."""
    status, where = response.status_code, host(str(response.url))
    if failed := down(response):
        return failed
    if status == 200:
        return None if _is_object(response.content) else unreadable(where)
    try:
        refusal = msgspec.json.decode(response.content, type=_Refusal)
    except msgspec.DecodeError:
        refusal = _Refusal()
    return _meaning(refusal, response, now) if refusal.error else unreadable(where, status)


def _meaning(refusal: _Refusal, response: httpx.Response, now: float) -> AccountFault:
    found = _NUMBER.match(refusal.error_description)
    number = refusal.error_codes[0] if refusal.error_codes else int(found[1]) if found else None
    detail = _TRACE.sub("", refusal.error_description).strip().split("\n")[0].strip() or f"The authority answered {refusal.error}."
    if number == _aadsts.THROTTLED:
        return AuthorityDown("authority_throttled", detail, _FEWER, retry_after=http.retry_after(response.headers))
    if number in _aadsts.PASSING or refusal.error == "temporarily_unavailable":
        return AuthorityDown("authority_busy", detail, retry_after=http.retry_after(response.headers))
    if number == _aadsts.CLOCK_SKEW:
        detail += skew(response.headers, now)
    code = f"aadsts_{number}" if number else f"authority_{refusal.error}"
    ids = {"trace_id": refusal.trace_id, "correlation_id": refusal.correlation_id}
    return AuthorityRefused(code, detail, _aadsts.next_step(number, refusal.error), error=refusal.error, **ids)


def skew(headers: Mapping[str, str], now: float) -> str:
    """How far this machine's clock is from the authority's, where its answer tells."""
    try:
        ahead = now - parsedate_to_datetime(headers.get("Date", "")).timestamp()
    except ValueError:
        return ""
    if abs(ahead) < SKEW_TOLD:
        return " This machine's clock agrees with the authority's."
    return f" This machine's clock is {abs(ahead):.0f} seconds {'ahead of' if ahead > 0 else 'behind'} the authority's."


def down(response: httpx.Response) -> AuthorityDown | None:
    """The error of an answer that is none to the question: 429, a web page (which no authority sends), 5xx. None for any other."""
    status, where, wait = response.status_code, host(str(response.url)), http.retry_after(response.headers)
    if status == 429:
        return AuthorityDown("authority_throttled", f"{where} answered 429.", _FEWER, retry_after=wait)
    if response.content.lstrip().startswith(b"<"):
        return AuthorityDown("authority_gateway", f"{where} answered {status} with a web page.", _PROXY, retry_after=wait)
    if status >= 500:
        return AuthorityDown("authority_busy", f"{where} answered {status}.", retry_after=wait)
    return None


def _is_object(body: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(body), dict)
    except msgspec.DecodeError:
        return False


def unreadable(where: str, status: int = 200) -> AuthorityDown:
    detail = f"{where} answered {status} with something that no authority says."
    return AuthorityDown("authority_unreadable", detail, "Check the profile's `cloud`, and whether a proxy answers instead.")


def host(url: str) -> str:
    return httpx.URL(url).host
