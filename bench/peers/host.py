"""Calls the app's `post_message` as the Functions worker would: found by its name, given an HttpRequest."""

import inspect
import json
from types import SimpleNamespace
from typing import Any

import azure.functions as func

from bench.peers.where import SUBJECT, TEXT, TO, WHERE

CONTEXT = SimpleNamespace(
    function_name="post_message", invocation_id="bench", trace_context=SimpleNamespace(trace_parent="", trace_state="")
)


async def call(app: func.FunctionApp) -> None:
    body = {"account": WHERE["account"], "to": [TO], "subject": SUBJECT, "text": TEXT}
    request = func.HttpRequest(
        method="POST",
        url="http://localhost/api/messages",
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {WHERE['caller_token']}"},
        body=json.dumps(body).encode(),
    )
    function = next(function for function in app.get_functions() if function.get_function_name() == "post_message")
    handler: Any = function.get_user_function()
    takes_context = "context" in inspect.signature(handler).parameters
    response = await (handler(request, context=CONTEXT) if takes_context else handler(request))
    answer = json.loads(response.get_body() or "{}")
    assert response.status_code == 202, answer
    assert answer.get("status", "sent") == "sent", answer  # ours says 202 to what is not sent yet, too
