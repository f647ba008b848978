"""Which call is which: the paths below a user, the permissions of which any one is enough, and who handles it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import unquote

from starlette.types import Scope

from sandbox.graph import attachments, messages, sending
from sandbox.graph.access import READ, READ_BASIC, SEND, WRITE
from sandbox.graph.call import Answer, Call
from sandbox.graph.delta import Deltas
from sandbox.graph.errors import GraphError, bad_request
from sandbox.graph.uploads import Uploads

Handler = Callable[[Call], Awaitable[Answer]]
KEY = "{}"
_WITH_KEY = re.compile(r"(\w+)\('(.*)'\)")


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: tuple[str, ...]
    needs: frozenset[str]
    handler: Handler

    def keys(self, segments: list[str]) -> tuple[str, ...] | None:
        """The variable parts; None where the path is another one. Names are compared without their case."""
        if len(segments) != len(self.path):
            return None
        pairs = list(zip(self.path, segments, strict=True))
        same = all(name == KEY or name == segment.lower() for name, segment in pairs)
        return tuple(segment for name, segment in pairs if name == KEY) if same else None


class Routes:
    def __init__(self, deltas: Deltas, uploads: Uploads) -> None:
        self._all = list(_routes(deltas, uploads))

    def find(self, method: str, segments: list[str]) -> tuple[Route, tuple[str, ...]]:
        """Raises GraphError. Fixed names come before keys, so `messages/delta` is no message named delta."""
        found = [(route, keys) for route in self._all if (keys := route.keys(segments)) is not None]
        if not found:
            raise bad_request(f"Resource not found for the segment '{segments[-1] if segments else ''}'.")
        least = min(len(keys) for _, keys in found)
        here = [(route, keys) for route, keys in found if route.method == method and len(keys) == least]
        if not here:
            raise GraphError(405, "ErrorInvalidRequest", "The OData request is not supported.")
        return here[0]


def segments(scope: Scope) -> list[str]:
    """Of a path as it came: `users('a%40b')` is users, a@b; `microsoft.graph.delta()` is delta."""
    found: list[str] = []
    for part in scope["raw_path"].decode("ascii", "replace").partition("?")[0].strip("/").split("/"):
        text = unquote(part)
        keyed = _WITH_KEY.fullmatch(text)
        found += [keyed[1], keyed[2].replace("''", "'")] if keyed else [text.removeprefix("microsoft.graph.").removesuffix("()")]
    return found


def _routes(deltas: Deltas, uploads: Uploads) -> list[Route]:
    one, within = f"messages/{KEY}", f"mailfolders/{KEY}"
    table: list[tuple[str, str, frozenset[str], Handler]] = [
        ("POST", "sendmail", SEND, sending.send_mail),
        ("GET", "messages", READ_BASIC, messages.list_all),
        ("POST", "messages", WRITE, messages.create),
        ("GET", "messages/$count", READ_BASIC, messages.count_all),
        ("GET", "mailfolders", READ_BASIC, messages.list_folders),
        ("POST", "mailfolders", WRITE, messages.create_folder),
        ("GET", within, READ_BASIC, messages.get_folder),
        ("GET", f"{within}/childfolders", READ_BASIC, messages.list_folders),
        ("POST", f"{within}/childfolders", WRITE, messages.create_folder),
        ("GET", f"{within}/messages", READ_BASIC, messages.list_folder),
        ("POST", f"{within}/messages", WRITE, messages.create_in_folder),
        ("GET", f"{within}/messages/$count", READ_BASIC, messages.count_folder),
        ("GET", f"{within}/messages/delta", READ_BASIC, deltas.handle),
    ]
    for path in (one, f"{within}/{one}"):
        table += [
            ("GET", path, READ_BASIC, messages.get),
            ("PATCH", path, WRITE, messages.update),
            ("DELETE", path, WRITE, messages.delete),
            ("GET", f"{path}/$value", READ, messages.get_mime),
            ("PUT", f"{path}/$value", WRITE, messages.put_mime),
            ("POST", f"{path}/permanentdelete", WRITE, messages.permanent_delete),
            ("POST", f"{path}/move", WRITE, messages.move),
            ("POST", f"{path}/copy", WRITE, messages.copy_item),
            ("POST", f"{path}/send", SEND, sending.send),
            ("POST", f"{path}/reply", SEND, sending.reply(to_all=False)),
            ("POST", f"{path}/replyall", SEND, sending.reply(to_all=True)),
            ("POST", f"{path}/forward", SEND, sending.forward),
            ("POST", f"{path}/createreply", WRITE, sending.create_reply(to_all=False)),
            ("POST", f"{path}/createreplyall", WRITE, sending.create_reply(to_all=True)),
            ("POST", f"{path}/createforward", WRITE, sending.create_forward),
            ("GET", f"{path}/attachments", READ, attachments.list_all),
            ("POST", f"{path}/attachments", WRITE, attachments.create),
            ("POST", f"{path}/attachments/createuploadsession", WRITE, attachments.create_upload_session(uploads)),
            ("GET", f"{path}/attachments/{KEY}", READ, attachments.get),
            ("DELETE", f"{path}/attachments/{KEY}", WRITE, attachments.delete),
            ("GET", f"{path}/attachments/{KEY}/$value", READ, attachments.get_content),
        ]
    return [Route(method, tuple(path.split("/")), needs, handler) for method, path, needs, handler in table]
