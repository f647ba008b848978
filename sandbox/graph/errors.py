"""What Graph answers when it refuses: learn.microsoft.com/graph/errors. Codes and texts as Outlook gives them in public traces."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class GraphError(Exception):
    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


def bad_request(message: str, code: str = "BadRequest") -> GraphError:
    return GraphError(400, code, message)


def bad_body(message: str) -> GraphError:
    """What the JSON reader says of a body that does not fit the contract."""
    return GraphError(400, "RequestBodyRead", message)


def bad_query(message: str) -> GraphError:
    return GraphError(400, "ErrorInvalidUrlQuery", message)


def not_found() -> GraphError:
    return GraphError(
        404, "ErrorItemNotFound", "The specified object was not found in the store., The process failed to get the correct properties."
    )


def denied() -> GraphError:
    return GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")


def too_long() -> GraphError:
    """github.com/microsoftgraph/microsoft-graph-docs-contrib/issues/682"""
    return GraphError(413, "BadRequest", "The maximum request length supported is 4MB.")


def too_large() -> GraphError:
    return GraphError(
        400, "ErrorMessageSizeExceeded", "The message exceeds the maximum supported size., Cannot save changes made to an item to store."
    )


def throttled(seconds: float = 1) -> GraphError:
    """learn.microsoft.com/answers/questions/734143"""
    message = "Application is over its MailboxConcurrency limit."
    return GraphError(429, "ApplicationThrottled", message, {"Retry-After": f"{seconds:g}"})


def refusal(request: Request, error: GraphError) -> Response:
    request_id = str(uuid.uuid4())
    inner = {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
        "request-id": request_id,
        "client-request-id": request.headers.get("client-request-id", request_id),
    }
    body = {"error": {"code": error.code, "message": error.message, "innerError": inner}}
    return JSONResponse(body, error.status, headers={**error.headers, "request-id": request_id})
