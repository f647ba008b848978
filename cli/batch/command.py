"""`mailroom batch`: a file of mails to the functions, and what becomes of them."""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from cli import api, sign_in
from cli.batch import request, text
from cli.batch.request import Request
from cli.batch.watch import Watch, path
from cli.progress import Progress
from mailroom import http, wiring
from mailroom.identity import Identity

SECONDS = 300.0  # of one call: 20 MB are checked, line by line, before there is an answer


async def run(given: argparse.Namespace, asked: Request | None, env: Mapping[str, str] = os.environ) -> int:
    """Raises MailroomError. `asked` is None where there is a batch already, whose id is in one of the options."""
    async with http.new_client(SECONDS) as client:
        identity = Identity(client, env, client_id=env.get("AZURE_CLIENT_ID") or None)
        token = sign_in.signing_in(env, lambda: wiring.settings().api, client, lambda: identity)
        functions = api.Api(api.base(env), client, token)
        if asked is None:
            return await _there_already(functions, given)
        view = await _posted(functions, asked, f"cli-{secrets.token_hex(16)}" if given.again else asked.key)
        if given.dry_run:
            _say(text.rehearsed(view))
            return 1 if view["refused"] else 0
        if view.get("status") == "accepting":
            view = await _followed(functions, lambda watch: watch.until_accepted(view["id"]))
        _say(text.accepted(view))
        return await _watched(functions, view["id"]) if given.watch else _refusals(view)


async def _there_already(functions: api.Api, given: argparse.Namespace) -> int:
    if given.failures is not None:
        form = {"format": "csv" if given.csv else "ndjson"}
        sys.stdout.buffer.write(await functions.fetch(f"{path(given.failures)}/failures", form))
        return 0
    if given.cancel is not None:
        _say(text.cancelled(await functions.do("DELETE", path(given.cancel))))
    if given.retry is not None:
        _say(text.retried(await functions.do("POST", f"{path(given.retry)}/retry")))
    if given.follow is None and not given.watch:
        return 0
    return await _watched(functions, given.follow or given.cancel or given.retry)


async def _posted(functions: api.Api, asked: Request, key: str) -> dict[str, Any]:
    body = asked.naming(await functions.upload(asked.upload)) if asked.upload else asked.body
    try:
        return await functions.post("batches", body, asked.kind, key, asked.params)
    except api.Answered as error:
        if error.code != "idempotency_key_reused":
            raise
        detail = "This file was accepted with these options within the last 48 hours."  # its upload had another name then
        raise api.Answered(error.status, error.code, detail, "`--follow ID` watches it, `--again` sends it once more.") from error


async def _watched(functions: api.Api, batch_id: str) -> int:
    view = await _followed(functions, lambda watch: watch.until_done(batch_id))
    print(f"done: {text.standing(view)}")
    _refusals(view)
    return 0 if view["counts"]["sent"] == sum(view["counts"].values()) else 1


async def _followed(functions: api.Api, how: Callable[[Watch], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    progress = Progress(sys.stdout, columns=lambda: shutil.get_terminal_size().columns)
    try:
        return await how(Watch(functions, progress))
    finally:
        progress.clear()


def _refusals(view: dict[str, Any]) -> int:
    """0 where nothing was refused."""
    count = view.get("counts", {}).get("refused", 0)
    if count:
        _say(text.refused(view["refused"], count))
    return 1 if count else 0


def _say(lines: Any) -> None:
    for line in lines:
        print(line, flush=True)


def asked(given: argparse.Namespace, read: Callable[[Path], bytes]) -> Request:
    """Raises BadInput, OSError."""
    accounts = ",".join(given.account)
    told = {"accounts": accounts, "send_at": given.send_at, "time_zone": given.time_zone}
    flags = {"dry_run": given.dry_run, "partial": given.partial}
    params = {name: value for name, value in told.items() if value} | {name: "true" for name, on in flags.items() if on}
    content = read(given.file)
    if given.template is None:
        return request.of_lines(content, params)
    as_csv = given.csv or given.file.suffix.lower() in (".csv", ".tsv")
    return request.of_template(read(given.template), content, params, as_csv=as_csv)
