"""The local host's HTTP trigger, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import azure.functions as func
import httpx
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from sandbox.host import http as front
from sandbox.host.functions import BadApp, Context, Function, Trace, load
from sandbox.host.http import HttpFront
from sandbox.host.routes import BadRoute, compiled
from sandbox.host.settings import BadHostJson, HostSettings, timespan
from sandbox.serve import serve
from tests.waiting import until

APP = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
slow_may_end = asyncio.Event()


@APP.route("echo/{id}/{part?}", methods=["GET", "POST"])
async def echo(req: func.HttpRequest) -> func.HttpResponse:
    seen = {
        "method": req.method,
        "url": req.url,
        "route": dict(req.route_params),
        "params": dict(req.params),
        "header": req.headers.get("X-Seen"),
        "body": req.get_body().decode(),
    }
    return func.HttpResponse(json.dumps(seen), status_code=201, headers={"Location": "/api/x"}, mimetype="application/json")


@APP.route("echo/fixed")
def fixed(req: func.HttpRequest, context: func.Context) -> str:
    assert context.invocation_id
    return f"{context.function_name} ü"


@APP.route("boom")
async def boom(req: func.HttpRequest) -> func.HttpResponse:
    raise ValueError("on purpose")


@APP.route("nothing")
def nothing(req: func.HttpRequest) -> None:
    return None


@APP.route("slow")
async def slow(req: func.HttpRequest) -> func.HttpResponse:
    await slow_may_end.wait()
    return func.HttpResponse("done")


def functions() -> list[Function]:
    return [
        Function(found.get_function_name(), json.loads(found.get_function_json())["bindings"][0], found.get_user_function(), Path())
        for found in APPS
    ]


APPS = APP.get_functions()


@pytest_asyncio.fixture
async def api() -> AsyncIterator[httpx.AsyncClient]:
    served = await serve(HttpFront.of(functions(), "api", 5), None)
    async with httpx.AsyncClient(base_url=served.url) as client:
        yield client
    await served.stop()


async def test_what_a_function_sees_and_says(api: httpx.AsyncClient) -> None:
    """Method, URL, route, query, headers and body reach the function; status, headers, type and body come back."""
    answer = await api.post("/api/echo/a%2Fb%20c?x=1&x=2&y=", content="ü".encode(), headers={"x-seen": "yes"})
    assert answer.status_code == 201
    assert answer.headers["location"] == "/api/x"
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "method": "POST",
        "url": f"{api.base_url}/api/echo/a%2Fb%20c?x=1&x=2&y=",
        "route": {"id": "a%2Fb c"},
        "params": {"x": "1,2", "y": ""},
        "header": "yes",
        "body": "ü",
    }


async def test_other_answers(api: httpx.AsyncClient) -> None:
    """Text is text/plain in UTF-8, nothing is 204, an exception is an empty 500, a synchronous function runs as well."""
    answer = await api.get("/API/Echo/Fixed")
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, "fixed ü", "text/plain; charset=utf-8")
    assert (await api.get("/api/nothing")).status_code == 204
    answer = await api.get("/api/boom")
    assert (answer.status_code, answer.content) == (500, b"")


@pytest.mark.parametrize(("method", "path"), [("GET", "/echo/1"), ("PUT", "/api/echo/1"), ("GET", "/api/echo"), ("GET", "/api/echo/1/2/3")])
async def test_no_such_route(api: httpx.AsyncClient, method: str, path: str) -> None:
    """What no route takes is 404, a method that its route does not take included."""
    assert (await api.request(method, path)).status_code == 404


async def test_a_body_over_the_limit(api: httpx.AsyncClient) -> None:
    """More than 104,857,600 bytes are 413, and the function is not called."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(101):
            yield bytes(1024 * 1024)

    assert front.BODY_LIMIT == 104_857_600
    assert (await api.post("/api/echo/1", content=chunks())).status_code == 413


async def test_draining() -> None:
    """Once it drains, what runs is answered and what is new gets 503."""
    slow_may_end.clear()
    app = HttpFront.of(functions(), "api")
    served = await serve(app, None)
    async with httpx.AsyncClient(base_url=served.url) as client:
        running = asyncio.create_task(client.get("/api/slow"))
        await until(lambda: app.running)
        draining = asyncio.create_task(app.drain(5))
        await asyncio.sleep(0)
        assert (await client.get("/api/nothing")).status_code == 503
        slow_may_end.set()
        assert (await running).text == "done"
        await draining
    await served.stop()


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("a/{id}", "A/7", {"id": "7"}),
        ("a/{id}", "a", None),
        ("a/{id?}", "a", {"id": None}),
        ("a/{id:int}", "a/7", {"id": "7"}),
        ("a/{id:int}", "a/x", None),
        ("a/{id:guid?}", "a/0f8fad5b-d9cb-469f-a165-70867728950e", {"id": "0f8fad5b-d9cb-469f-a165-70867728950e"}),
        ("a/{*rest}", "a/b/c", {"rest": "b/c"}),
        ("files/{name}.{end}", "files/x.eml", {"name": "x", "end": "eml"}),
        ("a+b", "aab", None),
    ],
)
def test_templates(template: str, path: str, expected: dict[str, str | None] | None) -> None:
    """A route's template takes the paths that ASP.NET Core's would."""
    found = compiled(template).fullmatch(path)
    assert (found.groupdict() if found else None) == expected


@pytest.mark.parametrize("template", ["a/{id:length(5)}", "a/{id", "a/{id:nonsense}"])
def test_templates_that_are_not_known(template: str) -> None:
    """A template that this host would read otherwise than Azure is refused at the start."""
    with pytest.raises(BadRoute):
        compiled(template)


def test_host_json(tmp_path: Path) -> None:
    """Defaults are the platform's, and a setting that makes no sense stops the start by name."""
    file = tmp_path / "host.json"
    assert HostSettings.load(file) == HostSettings("api", None)
    queues = {"batchSize": 3, "messageEncoding": "none"}
    file.write_text(json.dumps({"functionTimeout": "00:05:00", "extensions": {"http": {"routePrefix": ""}, "queues": queues}}))
    settings = HostSettings.load(file)
    assert (settings.route_prefix, settings.function_timeout) == ("", 300)
    assert (settings.queues.batch_size, settings.queues.new_batch_threshold, settings.queues.encoding) == (3, 1, "none")
    file.write_text('{"extensions": {"queues": {"batchSize": 33}}}')
    with pytest.raises(BadHostJson, match="batchSize"):
        HostSettings.load(file)


@given(st.integers(0, 9), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_time_spans(days: int, hours: int, minutes: int, seconds: int) -> None:
    """A .NET TimeSpan is so many seconds."""
    assert timespan(f"{days}.{hours:02}:{minutes:02}:{seconds:02}") == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


@pytest.mark.parametrize("text", ["", "10", "1:2:3:4:5", "00:00:1e3"])
def test_no_time_spans(text: str) -> None:
    """What is no TimeSpan is refused."""
    with pytest.raises(BadHostJson):
        timespan(text)


def test_an_app_that_cannot_run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module without a FunctionApp says so."""
    (tmp_path / "function_app.py").write_text("apps = []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(__import__("sys").modules, "function_app", raising=False)
    with pytest.raises(BadApp, match="FunctionApp"):
        load(tmp_path)
    __import__("sys").modules.pop("function_app")


def test_the_context_is_whole() -> None:
    """Nothing of the context that azure.functions declares is left abstract."""
    function = Function("f", {}, lambda: None, Path("/app"))
    context: Any = Context(function, "1", Trace.of(None))
    assert (context.function_name, context.invocation_id, context.function_directory) == ("f", "1", "/app")
