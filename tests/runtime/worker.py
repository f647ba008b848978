"""A worker process: Microsoft's `azure-functions-runtime` with an app in it, told by JSON lines what the host would tell by gRPC.

`python -m tests.runtime.worker APP_FOLDER` loads the app as the platform does, writes one line that lists its functions, then answers one
invocation a line until its input ends. Only Python 3.13 has the runtime.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import uuid
from typing import Any

import azure_functions_runtime as runtime

from tests.runtime import protos
from tests.runtime.protos import InvocationRequest, ParameterBinding, RpcHttp, StreamingMessage, TypedData, WorkerRequest


class LoadError(Exception):
    pass


async def load(folder: str) -> list[protos.RpcFunctionMetadata]:
    sys.path.insert(0, folder)
    runtime.start_threadpool_executor()
    init = protos.WorkerInitRequest(function_app_directory=folder)
    properties = {"host": "127.0.0.1", "protos": protos}
    started = await runtime.worker_init_request(_request("worker_init_request", init, properties))
    if started.result.status != protos.StatusResult.Success:
        raise LoadError(started.result.exception.stack_trace)
    functions = (
        await runtime.functions_metadata_request(WorkerRequest(name="functions", request=StreamingMessage()))
    ).function_metadata_results
    for function in functions:
        await runtime.function_load_request(_request("function_load_request", protos.FunctionLoadRequest(function_id=function.function_id)))
    return functions


async def invoke(function: protos.RpcFunctionMetadata, call: dict[str, Any]) -> dict[str, Any]:
    trigger = next(name for name, binding in function.bindings.items() if binding.type.endswith("Trigger"))
    request = InvocationRequest(
        invocation_id=str(uuid.uuid4()),
        function_id=function.function_id,
        input_data=[ParameterBinding(name=trigger, data=_typed(call["input"]))],
        # the host sends what is neither text nor bytes as JSON (GrpcMessageConversionExtensions.ToRpc)
        trigger_metadata={
            name: TypedData(string=value) if isinstance(value, str) else TypedData(json=json.dumps(value))
            for name, value in call.get("metadata", {}).items()
        },
    )
    response = await runtime.invocation_request(_request("invocation_request", request))
    return {
        "ok": response.result.status == protos.StatusResult.Success,
        "exception": response.result.exception and response.result.exception.message,
        "answer": _answer(response.return_value),
    }


def _request(name: str, message: object, properties: dict[str, Any] | None = None) -> WorkerRequest:
    return WorkerRequest(name=name, request=StreamingMessage(**{name: message}), properties=properties or {})


def _typed(given: dict[str, Any]) -> TypedData:
    if "http" in given:
        http = dict(given["http"])
        body = base64.b64decode(http.pop("body", ""))
        return TypedData(http=RpcHttp(**http, body=TypedData(bytes=body)))
    return TypedData(**given)


def _answer(value: TypedData | None) -> dict[str, Any] | None:
    if value is None or value.http is None:
        return None
    body = value.http.body
    text = "" if body is None else body.string or (body.bytes or b"").decode()
    return {"status": int(value.http.status_code), "headers": dict(value.http.headers), "body": text}


async def main() -> None:
    wire, sys.stdout = sys.stdout, sys.stderr  # whatever the app prints stays out of our lines
    functions = {function.name: function for function in await load(sys.argv[1])}
    listed = {name: [json.loads(binding) for binding in function.raw_bindings] for name, function in functions.items()}
    print(json.dumps(listed), file=wire, flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        call = json.loads(line)
        print(json.dumps(await invoke(functions[call["function"]], call)), file=wire, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
