"""What Google answers when it refuses: OAuth 2.0 errors of the token endpoint, and those of its APIs.

developers.google.com/identity/protocols/oauth2/service-account ("JWT error codes"), developers.google.com/gmail/api/guides/handle-errors
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class OAuthError(Exception):
    """RFC 6749, 5.2."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(f"{status} {error}: {description}")
        self.status = status
        self.body = {"error": error, "error_description": description}


class ApiError(Exception):
    def __init__(self, status: int, reason: str, message: str, *, domain: str = "global", headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.body = body(status, reason, message, domain)
        self.headers = dict(headers or {})


_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


def body(status: int, reason: str, message: str, domain: str = "global") -> dict[str, Any]:
    error = {"code": status, "message": message, "errors": [{"message": message, "domain": domain, "reason": reason}]}
    return {"error": error | ({"status": _NAMES[status]} if status in _NAMES else {})}


def invalid_grant(description: str) -> OAuthError:
    return OAuthError("invalid_grant", description)


def bad(message: str, reason: str = "invalidArgument") -> ApiError:
    return ApiError(400, reason, message)


def unauthenticated() -> ApiError:
    return ApiError(401, "authError", "Invalid Credentials", headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/"'})


def insufficient() -> ApiError:
    return ApiError(403, "insufficientPermissions", "Request had insufficient authentication scopes.")


def not_found() -> ApiError:
    return ApiError(404, "notFound", "Requested entity was not found.")


def too_large() -> ApiError:
    return ApiError(413, "uploadTooLarge", "Request is too large.")


def crowded() -> ApiError:
    return ApiError(429, "rateLimitExceeded", "Too many concurrent requests for user", domain="usageLimits")
