"""Resumable uploads of a mail to send: developers.google.com/gmail/api/guides/uploads.

The mail goes once its last byte is here; until then nothing was sent. The session's URL is a key by itself.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox.faults import LAG
from sandbox.google.access import SENDING, mailbox_of
from sandbox.google.errors import bad, not_found, too_large
from sandbox.google.gmail import json_object, sent
from sandbox.google.mailbox import Mailbox
from sandbox.google.post import PostOffice

PATH = "/upload/gmail/v1/users/{user}/messages/send"
MOST = 36_700_160
QUANTUM = 256 * 1024
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(slots=True, eq=False)
class Upload:
    box: Mailbox
    thread: str | None
    size: int
    data: bytearray = field(default_factory=bytearray)


class Uploads:
    def __init__(self, office: PostOffice) -> None:
        self.office = office
        self._open: dict[str, Upload] = {}

    def routes(self) -> list[Route]:
        return [Route(PATH, self.begin, methods=["POST"]), Route(PATH, self.take, methods=["PUT"])]

    async def begin(self, request: Request) -> Response:
        box = mailbox_of(self.office, request, SENDING)
        if request.query_params.get("uploadType") != "resumable":
            raise bad("Only resumable uploads are played here.")
        size = request.headers.get("x-upload-content-length", "")
        if request.headers.get("x-upload-content-type") != "message/rfc822" or not size.isdigit():
            raise bad("Media type or length of the upload is missing or not supported. Valid media types: [message/*]", "badContent")
        if int(size) > MOST:
            raise too_large()
        thread = json_object(await request.body()).get("threadId")
        key = secrets.token_urlsafe(32)
        self._open[key] = Upload(box, thread, int(size))
        where = f"{request.url.scheme}://{request.headers['host']}{request.url.path}?uploadType=resumable&upload_id={key}"
        return Response(status_code=200, headers={"Location": where, "X-GUploader-UploadID": key})

    async def take(self, request: Request) -> Response:
        key = request.query_params.get("upload_id", "")
        upload = self._open.get(key)
        if upload is None:
            raise not_found()
        data = await request.body()
        _check(upload, request.headers.get("content-range", ""), data)
        upload.data += data
        if len(upload.data) < upload.size:
            return Response(status_code=308, headers={"Range": f"bytes=0-{len(upload.data) - 1}"})
        del self._open[key]
        return sent(self.office.accept(upload.box, bytes(upload.data), upload.thread, request.scope.get(LAG, 0.0)))


def _check(upload: Upload, content_range: str, data: bytes) -> None:
    found = _RANGE.fullmatch(content_range)
    if found is None:
        raise bad("The Content-Range header is missing or malformed.")
    first, last, size = map(int, found.groups())
    if size != upload.size or last - first + 1 != len(data) or first != len(upload.data):
        raise bad("The Content-Range header does not fit the upload.")
    if last + 1 < size and len(data) % QUANTUM:
        raise bad("Every chunk but the last must be a multiple of 256 KiB.")
