"""What a service of the sandbox says when it is told to fail: one body shape for each service."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

# Code and text as Outlook gives them, seen in public traces of clients; the status is the key.
GRAPH = {
    "400": ("ErrorInvalidRequest", "Your request is invalid."),
    "401": ("InvalidAuthenticationToken", "Lifetime validation failed, the token is expired."),
    "403": ("ErrorAccessDenied", "Access is denied. Check credentials and try again."),
    "404": ("ErrorItemNotFound", "The specified object was not found in the store."),
    "429": ("ApplicationThrottled", "Application is over its MailboxConcurrency limit."),
    "500": ("ErrorInternalServerError", "An internal server error occurred. The operation failed."),
    "502": ("BadGateway", "Failed to execute backend request."),
    "503": ("CommandConcurrencyLimitReached", "The command concurrency limit has been reached."),
    "504": ("UnknownError", "The server, while acting as a proxy, did not receive a timely response from the upstream server."),
    "507": ("ErrorQuotaExceeded", "The operation failed because the mailbox's quota was exceeded."),
}
VAULT = {
    "401": ("Unauthorized", "AKV10022: Invalid audience or expired token."),
    "403": ("Forbidden", "Caller is not authorized to perform action on resource."),
    "404": ("SecretNotFound", "A secret with (name/id) was not found in this key vault."),
    "429": ("Throttled", "Request was not processed because too many requests were received."),
}
GOOGLE = {
    "400": ("badRequest", "Bad Request"),
    "401": ("authError", "Invalid Credentials"),
    "403": ("userRateLimitExceeded", "User Rate Limit Exceeded"),
    "404": ("notFound", "Requested entity was not found."),
    "429": ("rateLimitExceeded", "Too many requests for user"),
    "500": ("backendError", "Backend Error"),
    "503": ("backendError", "The service is currently unavailable."),
}
ENTRA = {
    "400": ("invalid_request", 900144, "The request body must contain the required parameter."),
    "401": ("invalid_client", 7000215, "Invalid client secret provided."),
    "403": ("unauthorized_client", 7000112, "Application is disabled."),
    "429": ("temporarily_unavailable", 90055, "The tenant request is throttled due to excessive incoming request rate."),
}


def _graph(status: str) -> dict[str, Any]:
    code, message = GRAPH[status]
    request_id = str(uuid.uuid4())
    inner = {"date": _now("%Y-%m-%dT%H:%M:%S"), "request-id": request_id, "client-request-id": request_id}
    return {"error": {"code": code, "message": message, "innerError": inner}}


def _vault(status: str) -> dict[str, Any]:
    code, message = VAULT.get(status, ("InternalServerError", "The service met an internal error."))
    return {"error": {"code": code, "message": message}}


def _entra(status: str) -> dict[str, Any]:
    error, number, text = ENTRA.get(status, ("temporarily_unavailable", 90033, "A transient error has occurred. Please try again."))
    trace, correlation, at = str(uuid.uuid4()), str(uuid.uuid4()), _now("%Y-%m-%d %H:%M:%SZ")
    described = f"AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {at}"
    ids = {"trace_id": trace, "correlation_id": correlation}
    return {"error": error, "error_description": described, "error_codes": [number], "timestamp": at, **ids}


def _identity(status: str) -> dict[str, Any]:
    return {"statusCode": int(status), "message": "The managed identity endpoint was told to fail.", "correlationId": str(uuid.uuid4())}


def _google(status: str) -> dict[str, Any]:
    reason, message = GOOGLE.get(status, ("backendError", "Internal error encountered."))
    domain = "usageLimits" if reason.endswith("LimitExceeded") else "global"
    return {"error": {"code": int(status), "message": message, "errors": [{"message": message, "domain": domain, "reason": reason}]}}


def _now(form: str) -> str:
    return datetime.now(UTC).strftime(form)


BODIES: dict[str, Callable[[str], dict[str, Any]]] = {
    "graph": _graph,
    "vault": _vault,
    "entra": _entra,
    "identity": _identity,
    "google": _google,
}
