"""The doors of the sending room: HTTP, queue and timer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import azure.functions as func
import msgspec

from mailroom import problem, wiring
from mailroom.errors import BadInput, Forbidden, MailroomError, Refused, TooLarge
from mailroom.events import during, record
from mailroom.model.account import Caller
from mailroom.model.intake import Intake
from mailroom.model.message import Message
from mailroom.model.places import OUTBOX_QUEUE
from mailroom.model.slice import Slice
from mailroom.storage.intakes import StoredIntakes
from mailroom.storage.outbox import Plain, read_intake, read_ticket
from send_mail import estimate, failures, parse
from send_mail.accept import QUEUE, Accept, request_hash
from send_mail.decide import Decide, decided
from send_mail.deliver import Deliver, nonces
from send_mail.intake import Begin, Wanted, wanted
from send_mail.intake import view as intake_view
from send_mail.posted import Posted, Poster, rehearsed
from send_mail.status import Status, mail_view
from send_mail.sweep import Sweep
from send_mail.take_in import TakeIn
from send_mail.tickets import Tickets

MESSAGE_LIMIT = 50 * 1024 * 1024  # a mail of 36 MB, the most that Gmail takes, in base64
BATCH_LIMIT = 20 * 1024 * 1024
UPLOAD = "Upload large attachments first (POST /api/attachments), and name them as `blob`."
UPLOAD_BATCH = "Upload its lines as NDJSON or CSV (POST /api/attachments), and send their name as `blob`."

blueprint = func.Blueprint()

Handler = Callable[[func.HttpRequest], Awaitable[func.HttpResponse]]


@wiring.once
def deliver() -> Deliver:
    store, ledger, outbox = wiring.store(), wiring.ledger(), wiring.outbox()
    return Deliver(
        accounts=wiring.settings().accounts,
        timing=wiring.settings().timing,
        store=store,
        ledger=ledger,
        lanes=wiring.lanes(),
        outbox=outbox,
        tickets=Tickets(store, ledger, outbox, wiring.monotonic),
        keyring=wiring.keyring(),
        sender_of=wiring.sender,
        monotonic=wiring.monotonic,
        new_nonce=nonces(wiring.random_prefix()),
    )


@wiring.once
def accept() -> Accept:
    return Accept(deliver(), wiring.keys())


@wiring.once
def status() -> Status:
    return Status(wiring.store(), wiring.ledger(), wiring.keys(), wiring.settings().accounts)


@wiring.once
def take_in() -> TakeIn:
    return TakeIn(accept(), StoredIntakes(wiring.store()), _may_use)


def _may_use(client_id: str, account: str) -> None:
    """Raises Forbidden, as the gate does, for who has asked some time ago."""
    caller = next((one for one in wiring.settings().callers.values() if one.client_id == client_id), None)
    if caller is None:
        raise Forbidden(
            "caller_unknown", f"Nobody here knows the client {client_id} any more.", "Add it to accounts.toml as [callers.NAME]."
        )
    wiring.gate().allow(caller, account)


@blueprint.route("messages", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@blueprint.function_name("post_message")
async def post_message(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return await _answered(req, context, _post_message)


async def _post_message(req: func.HttpRequest) -> func.HttpResponse:
    caller = await wiring.gate().admit(req.headers.get("Authorization"), "send")
    message = _message(req)
    wiring.gate().allow(caller, message.account)
    slice_ = await accept().single(message, caller.client_id, _request(req), _key(req))
    return _accepted(slice_)


@blueprint.route("attachments", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@blueprint.function_name("post_attachment")
async def post_attachment(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Takes no file: it says where to put one."""

    async def answer(req: func.HttpRequest) -> func.HttpResponse:
        caller = await wiring.gate().admit(req.headers.get("Authorization"), "send")
        return _json(201, await accept().uploads.offer(caller.client_id))

    return await _answered(req, context, answer)


@blueprint.route("messages/{id}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@blueprint.function_name("get_message")
async def get_message(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    async def answer(req: func.HttpRequest) -> func.HttpResponse:
        caller = await wiring.gate().admit(req.headers.get("Authorization"), "send")
        return _json(200, await status().message(req.route_params["id"], caller.client_id))

    return await _answered(req, context, answer)


@blueprint.route("batches", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@blueprint.function_name("post_batch")
async def post_batch(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return await _answered(req, context, _post_batch)


async def _post_batch(req: func.HttpRequest) -> func.HttpResponse:
    caller = await wiring.gate().admit(req.headers.get("Authorization"), "send")
    body = req.get_body()
    if len(body) > BATCH_LIMIT:
        what = f"The batch has {len(body)} bytes; the limit is {BATCH_LIMIT}."
        raise TooLarge("batch_too_large", what, UPLOAD_BATCH)
    order = wanted(body)
    if order is not None:
        return await _begin(req, caller, body, order)
    dry_run = _flag(req, "dry_run")
    poster = Poster(
        accept(), caller.client_id, lambda name: wiring.gate().allow(caller, name), _names(req), dry_run or _flag(req, "partial")
    )
    posted = await poster.read(body)
    keep = wiring.settings().keep_days * 86400
    send_at = posted.send_at(req.params.get("send_at"), req.params.get("time_zone"), wiring.store().now(), keep=keep)
    if dry_run:
        return _json(200, rehearsed(posted, estimate.seconds(posted.lines, wiring.settings().accounts), send_at))
    lines, refused, key = posted.lines, posted.refused, _key(req)
    batch = await accept().batch(lines, refused, caller.client_id, _request(req), key, shared=posted.shared, send_at=send_at)
    return _json(202, await status().accepted(batch), Location=f"/api/batches/{batch.id}")


async def _begin(req: func.HttpRequest, caller: Caller, body: bytes, order: Wanted) -> func.HttpResponse:
    """A batch that lies in an upload is accepted in the background."""
    if _flag(req, "dry_run"):
        what = "A dry run looks at a whole batch, and an upload may hold a million mails."
        raise BadInput("dry_run_of_upload", what, "Send some of its lines in the request.", field="dry_run")
    order = msgspec.structs.replace(order, partial=order.partial or _flag(req, "partial"))
    told, zone = req.params.get("send_at") or order.send_at, req.params.get("time_zone") or order.time_zone
    send_at = Posted([], []).send_at(told, zone, wiring.store().now())
    begin = Begin(accept(), take_in().intakes, caller.client_id)
    found = await begin(body, order, _request(req), _key(req), accounts=_names(req), send_at=send_at)
    told_of = intake_view(found) if isinstance(found, Intake) else await status().accepted(found)
    return _json(202, told_of, Location=f"/api/batches/{found.id}")


@blueprint.route("batches/{id}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@blueprint.function_name("get_batch")
async def get_batch(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    async def answer(req: func.HttpRequest) -> func.HttpResponse:
        caller = await wiring.gate().admit(req.headers.get("Authorization"), "send")
        return _json(200, await status().batch(req.route_params["id"], caller.client_id))

    return await _answered(req, context, answer)


@blueprint.route("batches/{id}", methods=["DELETE"], auth_level=func.AuthLevel.ANONYMOUS)
@blueprint.function_name("delete_batch")
async def delete_batch(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Cancels it: what is not being sent by now is not sent at all."""

    async def answer(req: func.HttpRequest) -> func.HttpResponse:
        caller = await wiring.gate().admit(req.headers.get("Authorization"), "send")
        stopped = await take_in().cancel(req.route_params["id"], caller.client_id)
        if stopped is not None:
            return _json(200, intake_view(stopped))
        batch = await status().header(req.route_params["id"], caller.client_id)
        await Decide(deliver()).cancel(batch)
        return _json(200, await status().batch(batch.id, caller.client_id))

    return await _answered(req, context, answer)


@blueprint.route("batches/{id}/retry", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@blueprint.function_name("retry_batch")
async def retry_batch(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Mails that the provider refused are tried once more."""

    async def answer(req: func.HttpRequest) -> func.HttpResponse:
        caller = await wiring.gate().admit(req.headers.get("Authorization"), "send")
        batch = await status().header(req.route_params["id"], caller.client_id)
        retried = await Decide(deliver()).retry(batch)
        return _json(202, {"retried": retried, **await status().batch(batch.id, caller.client_id)})

    return await _answered(req, context, answer)


@blueprint.route("batches/{id}/failures", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
@blueprint.function_name("get_failures")
async def get_failures(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    async def answer(req: func.HttpRequest) -> func.HttpResponse:
        caller = await wiring.gate().admit(req.headers.get("Authorization"), "send")
        form = failures.chosen(req.params.get("format"), req.headers.get("Accept"))
        body = failures.written(await status().failures(req.route_params["id"], caller.client_id), form)
        return func.HttpResponse(body, mimetype=failures.FORMATS[form])

    return await _answered(req, context, answer)


@blueprint.route("messages/{id}/resolve", methods=["POST"], auth_level=func.AuthLevel.ANONYMOUS)
@blueprint.function_name("resolve_message")
async def resolve_message(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """A person says what a held mail is."""
    return await _answered(req, context, _resolve_message)


async def _resolve_message(req: func.HttpRequest) -> func.HttpResponse:
    caller = await wiring.gate().admit(req.headers.get("Authorization"), "manage")
    decision = decided(req.get_body())
    whose = [caller.client_id, *([req.params["caller"]] if "caller" in req.params else [])]
    accounts = [name for name in wiring.settings().accounts if caller.may_use(name)]
    found, at = await status().anywhere(req.route_params["id"], whose, accounts)
    wiring.gate().allow(caller, found.ref.account)
    slice_ = await Decide(deliver()).resolve(found.ref, at, decision, caller.name)
    return _json(200, mail_view(slice_, slice_.mails[at]))


@blueprint.queue_trigger("msg", OUTBOX_QUEUE, "AzureWebJobsStorage")
@blueprint.function_name("deliver_mail")
async def deliver_mail(msg: func.QueueMessage, context: func.Context) -> None:
    """A ticket of ours, or a plain message that an application put there. What can't be read is poisoned once, not tried five times."""
    with during(context):
        await _deliver_mail(msg)


async def _deliver_mail(msg: func.QueueMessage) -> None:
    body = msg.get_body()
    ref = read_ticket(body)
    if ref is not None:
        await deliver().work(ref)
        return
    batch_id = read_intake(body)
    if batch_id is not None:
        await take_in().work(batch_id)
        return
    plain = Plain.read(body)
    try:
        message = parse.message(plain.body)
        await accept().single(message, QUEUE, request_hash(plain.body), unit=f"q{request_hash((msg.id or '').encode())[:32]}")
    except MailroomError as error:
        if error.retryable:
            raise
        record("queue.refused", warn=True, code=error.code, detail=error.detail)
        await wiring.outbox().poison(plain.body, str(error))


@blueprint.timer_trigger("timer", wiring.settings().schedules.sweep)
@blueprint.function_name("sweep_outbox")
async def sweep_outbox(timer: func.TimerRequest, context: func.Context) -> None:
    with during(context):
        await Sweep(deliver()).run()
        await take_in().revive()


async def _answered(req: func.HttpRequest, context: func.Context, handler: Handler) -> func.HttpResponse:
    """The handler's answer, or the problem that it met."""
    with during(context):
        try:
            return await handler(req)
        except MailroomError as error:
            record("request.refused", code=error.code, status=error.status)
            body = msgspec.json.encode(problem.problem(error))
            return func.HttpResponse(body, status_code=error.status, headers=problem.headers(error), mimetype=problem.MEDIA_TYPE)


def _message(req: func.HttpRequest) -> Message:
    size = len(req.get_body())
    if size > MESSAGE_LIMIT:
        raise TooLarge("request_too_large", f"The request has {size} bytes; the limit is {MESSAGE_LIMIT}.", UPLOAD)
    kind = req.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "message/rfc822":
        return parse.message(req.get_body())
    account = req.params.get("account")
    if not account:
        raise BadInput("field_missing", "The query has no account.", "Add ?account=NAME for a message/rfc822 body.", field="account")
    return parse.ready(account, req.get_body())


def _flag(req: func.HttpRequest, name: str) -> bool:
    return bool(req.params.get(name, "").lower() == "true")


def _names(req: func.HttpRequest) -> list[str]:
    """Of the accounts that share what names none."""
    told = req.params.get("accounts")
    return [name.strip() for name in told.split(",")] if told is not None else []


def _key(req: func.HttpRequest) -> str | None:
    key: str | None = req.headers.get("Idempotency-Key")
    if key is not None and not 1 <= len(key) <= 255:
        what = f"The key has {len(key)} characters."
        raise BadInput("idempotency_key_invalid", what, "Use 1 to 255 characters.", field="Idempotency-Key")
    return key


def _request(req: func.HttpRequest) -> str:
    """What makes a request the same: body, query and content type."""
    query = "&".join(f"{name}={value}" for name, value in sorted(req.params.items()))
    return request_hash(req.get_body(), query.encode(), req.headers.get("Content-Type", "").encode())


def _accepted(slice_: Slice) -> func.HttpResponse:
    [mail] = slice_.mails
    view, location = mail_view(slice_, mail), f"/api/messages/{quote(mail.id, safe='')}"
    if mail.status != "refused":
        return _json(202, view, Location=location)
    why = Refused(mail.code or "refused", mail.detail or "The provider refused the mail.", mail.next_step or "")
    refusal = problem.problem(why, id=mail.id)
    return func.HttpResponse(msgspec.json.encode(refusal), status_code=422, headers={"Location": location}, mimetype=problem.MEDIA_TYPE)


def _json(status_code: int, body: dict[str, Any], **headers: str) -> func.HttpResponse:
    return func.HttpResponse(msgspec.json.encode(body), status_code=status_code, headers=headers, mimetype="application/json")
