"""The messages between the Functions host and its Python worker, as far as Microsoft's runtime touches them.

Field and enum names are those of FunctionRpc.proto (github.com/Azure/azure-functions-language-worker-protobuf). The real ones are
generated gRPC classes that the platform's worker hands to the runtime as `properties["protos"]`; like them, these take keyword
arguments and refuse a field they do not know.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(kw_only=True)
class RpcException:
    message: str = ""
    stack_trace: str = ""


@dataclass(kw_only=True)
class StatusResult:
    Failure: ClassVar[int] = 0
    Success: ClassVar[int] = 1
    status: int = 0
    exception: RpcException | None = None


@dataclass(kw_only=True)
class WorkerMetadata:
    runtime_name: str = ""
    runtime_version: str = ""
    worker_version: str = ""
    worker_bitness: str = ""
    custom_properties: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class WorkerInitRequest:
    capabilities: dict[str, str] = field(default_factory=dict)
    function_app_directory: str = ""


@dataclass(kw_only=True)
class WorkerInitResponse:
    capabilities: dict[str, str]
    worker_metadata: WorkerMetadata
    result: StatusResult


@dataclass(kw_only=True)
class BindingInfo:
    out: ClassVar[int] = 1
    inout: ClassVar[int] = 2
    undefined: ClassVar[int] = 0
    type: str = ""
    direction: int = 0
    data_type: int | None = 0


@dataclass(kw_only=True)
class RpcFunctionMetadata:
    name: str
    function_id: str
    directory: str
    script_file: str
    entry_point: str
    language: str
    managed_dependency_enabled: bool
    is_proxy: bool
    bindings: dict[str, BindingInfo]
    raw_bindings: list[str]
    retry_options: Any
    properties: dict[str, str]


@dataclass(kw_only=True)
class FunctionMetadataResponse:
    use_default_metadata_indexing: bool
    function_metadata_results: list[RpcFunctionMetadata] | None
    result: StatusResult


@dataclass(kw_only=True)
class FunctionLoadRequest:
    function_id: str


@dataclass(kw_only=True)
class FunctionLoadResponse:
    function_id: str
    result: StatusResult


@dataclass(kw_only=True)
class RpcHttp:
    method: str = ""
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    body: TypedData | None = None
    status_code: str = ""
    cookies: list[Any] | None = None
    enable_content_negotiation: bool = False


@dataclass(kw_only=True)
class TypedData:
    """A oneof: at most one is set."""

    string: str | None = None
    json: str | None = None
    bytes: bytes | None = None
    http: RpcHttp | None = None
    int: int | None = None
    double: float | None = None

    def WhichOneof(self, _group: str) -> str | None:  # protobuf's own name
        return next((name for name, value in vars(self).items() if value is not None), None)


@dataclass(kw_only=True)
class ParameterBinding:
    name: str
    data: TypedData

    def WhichOneof(self, _group: str) -> str:  # protobuf's own name
        return "data"


@dataclass(kw_only=True)
class RpcTraceContext:
    trace_parent: str = ""
    trace_state: str = ""
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(kw_only=True)
class RetryContext:
    retry_count: int = 0
    max_retry_count: int = 0
    exception: RpcException | None = None


@dataclass(kw_only=True)
class InvocationRequest:
    invocation_id: str
    function_id: str
    input_data: list[ParameterBinding]
    trigger_metadata: dict[str, TypedData] = field(default_factory=dict)
    trace_context: RpcTraceContext = field(default_factory=RpcTraceContext)
    retry_context: RetryContext = field(default_factory=RetryContext)


@dataclass(kw_only=True)
class InvocationResponse:
    invocation_id: str
    result: StatusResult
    return_value: TypedData | None = None
    output_data: list[Any] = field(default_factory=list)


@dataclass(kw_only=True)
class StreamingMessage:
    """What comes over the wire: exactly one of the requests is set."""

    worker_init_request: WorkerInitRequest | None = None
    function_load_request: FunctionLoadRequest | None = None
    invocation_request: InvocationRequest | None = None


@dataclass(kw_only=True)
class WorkerRequest:
    """The wrapper in which the platform's worker hands a message to the runtime."""

    name: str
    request: StreamingMessage
    properties: dict[str, Any] = field(default_factory=dict)
