"""Calls the app's `post_message` as the Functions worker would: found by its name, given an HttpRequest."""

import json

import azure.functions as func

from bench.peers.where import SUBJECT, TEXT, TO, WHERE


async def call(app: func.FunctionApp) -> None:
    body = {"account": WHERE["account"], "to": [TO], "subject": SUBJECT, "text": TEXT}
    request = func.HttpRequest(
        method="POST",
        url="http://localhost/api/messages",
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {WHERE['caller_token']}"},
        body=json.dumps(body).encode(),
    )
    function = next(function for function in app.get_functions() if function.get_function_name() == "post_message")
    response = await function.get_user_function()(request)
    answer = json.loads(response.get_body() or "{}")
    assert response.status_code == 202, answer
    assert answer.get("status", "sent") == "sent", answer  # ours says 202 to what is not sent yet, too
