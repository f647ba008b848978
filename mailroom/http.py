"""One HTTP client for everything: shared TLS context, timeouts, Retry-After."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache

import httpx


@cache
def tls() -> ssl.SSLContext:
    """Building a context costs 20 ms, so there is one. It trusts what OpenSSL trusts: SSL_CERT_FILE and SSL_CERT_DIR count."""
    return ssl.create_default_context()


def new_client(timeout: float = 30.0) -> httpx.AsyncClient:
    """No redirects are followed: no API that we call redirects, and a token must not travel to another host."""
    return httpx.AsyncClient(verify=tls(), timeout=httpx.Timeout(timeout, connect=10.0), follow_redirects=False)


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
