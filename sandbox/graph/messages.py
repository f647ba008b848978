"""Messages and folders: list, get, count, create, update, move, copy, delete."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

from sandbox.graph import drafts, mime, query, render
from sandbox.graph.access import READ
from sandbox.graph.call import Answer, Call
from sandbox.graph.errors import bad_request, denied
from sandbox.graph.filter import Filter
from sandbox.graph.items import HIDDEN, ROOT, Folder, Item
from sandbox.graph.post import finish
from sandbox.graph.query import Query


async def list_all(call: Call) -> Answer:
    return _page(call, None)


async def list_folder(call: Call) -> Answer:
    return _page(call, call.box.folder(call.keys[0]))


async def count_all(call: Call) -> Answer:
    return _count(call, None)


async def count_folder(call: Call) -> Answer:
    return _count(call, call.box.folder(call.keys[0]))


async def get(call: Call) -> Answer:
    shape = query.shape(call.options)
    if shape.expands:
        _needs_read(call)
    return Answer(200, {"@odata.context": call.context("messages/$entity"), **call.show(call.item(), shape)})


async def get_mime(call: Call) -> Answer:
    return Answer(200, mime.source(call.item()))


async def put_mime(call: Call) -> Answer:
    """Replaces a draft's source."""
    item = call.item()
    if not item.props["isDraft"]:
        raise bad_request("The MIME content of an item that is no draft can't be replaced.", "ErrorInvalidOperation")
    new = drafts.from_mime(call, item.folder)
    item.props |= {name: value for name, value in new.props.items() if name not in ("createdDateTime", "conversationId")}
    item.mime, item.headers, item.extended, item.attachments = new.mime, new.headers, new.extended, new.attachments
    call.box.purge(new)
    call.box.touch(item)
    return Answer(200, call.show(item))


async def create(call: Call) -> Answer:
    return _created(call, "drafts")


async def create_in_folder(call: Call) -> Answer:
    return _created(call, call.box.folder(call.keys[0]))


async def update(call: Call) -> Answer:
    item = call.item()
    drafts.update(call, item, call.json("message"))
    return Answer(200, {"@odata.context": call.context("messages/$entity"), **call.show(item)})


async def delete(call: Call) -> Answer:
    call.box.delete(call.item())
    return Answer(204)


async def permanent_delete(call: Call) -> Answer:
    call.box.purge(call.item())
    return Answer(204)


async def move(call: Call) -> Answer:
    return _moved(call, call.box.move(call.item(), _destination(call)))


async def copy_item(call: Call) -> Answer:
    item, target = call.item(), _destination(call)
    parts = {name: copy.copy(getattr(item, name)) for name in ("extended", "several", "extensions", "headers", "attachments")}
    made = call.box.put(target, copy.deepcopy(item.props), mime=item.mime, received=item.received, **parts)
    finish(call.box, made)
    return _moved(call, made)


async def list_folders(call: Call) -> Answer:
    parent = call.box.folder(call.keys[0]).id if call.keys and call.keys[0].lower() != ROOT else ROOT
    shown = [folder for folder in call.box.folders.values() if folder.parent == parent and folder.well_known not in HIDDEN]
    asked = query.read({name: value for name, value in call.options.items() if name in ("$top", "$skip", "$count")})
    rows = [render.folder(folder, call.box.folders.values()) for folder in shown]
    return _slice(call, asked, rows, "mailFolders", "mailFolders" if parent == ROOT else f"mailFolders('{call.keys[0]}')/childFolders")


async def get_folder(call: Call) -> Answer:
    if call.keys[0].lower() == ROOT:
        children = sum(folder.parent == ROOT for folder in call.box.folders.values())
        return Answer(200, {"id": ROOT, "displayName": "Top of Information Store", "childFolderCount": children, "totalItemCount": 0})
    shown = render.folder(call.box.folder(call.keys[0]), call.box.folders.values())
    return Answer(200, {"@odata.context": call.context("mailFolders/$entity"), **shown})


async def create_folder(call: Call) -> Answer:
    name = call.json("mailFolder").get("displayName")
    parent = call.box.folder(call.keys[0]).id if call.keys else ROOT
    if not name:
        raise bad_request("The required property 'displayName' is missing.", "ErrorRequiredPropertyMissing")
    if any(folder.name.lower() == name.lower() and folder.parent == parent for folder in call.box.folders.values()):
        raise bad_request("A folder with the specified name already exists.", "ErrorFolderExists")
    return Answer(201, render.folder(call.box.add_folder(name, parent), call.box.folders.values()))


def candidates(call: Call, folder: Folder | None, found: Filter | None) -> list[Item]:
    """The items of the folder that pass, newest first, by an index where the filter names a value that one has."""
    items = folder.items.values() if folder else call.box.everything()
    if found and found.equal:
        indexed = call.box.with_value(*found.equal)
        items = [item for item in indexed if (item.folder is folder if folder else item.folder.well_known not in HIDDEN)]
    passed = (item for item in items if found is None or found.matches(item))
    return sorted(passed, key=lambda item: (item.props["receivedDateTime"], item.number), reverse=True)


def _page(call: Call, folder: Folder | None) -> Answer:
    asked = query.read(call.options)
    check_basic(call, asked)
    items = query.sort(candidates(call, folder, asked.filter), asked.order)
    where = f"mailFolders('{quote(call.keys[0], safe='')}')/messages" if folder else "messages"
    return _slice(call, asked, items, where, where, lambda item: call.show(item, asked.shape))


def _slice(call: Call, asked: Query, rows: list[Any], what: str, where: str, show: Callable[[Any], Any] = lambda row: row) -> Answer:
    size = asked.top or call.prefer.page_size or query.PAGE
    end = asked.skip + size
    body: dict[str, Any] = {"@odata.context": call.context(what)}
    body |= {"@odata.count": len(rows)} if asked.count else {}
    body["value"] = [show(row) for row in rows[asked.skip : end]]
    if end < len(rows):
        again = {name: value for name, value in call.options.items() if name != "$skip"} | {"$skip": str(end)}
        body["@odata.nextLink"] = f"{call.here}/{where}?{urlencode(again, quote_via=quote)}"
    return Answer(200, body)


def _count(call: Call, folder: Folder | None) -> Answer:
    asked = query.read(call.options)
    check_basic(call, asked)
    return Answer(200, str(len(candidates(call, folder, asked.filter))).encode())


def _created(call: Call, folder: str | Folder) -> Answer:
    item = drafts.from_mime(call, folder) if call.content_type == "text/plain" else drafts.from_json(call, call.json("message"), folder)
    return _moved(call, item)


def _moved(call: Call, item: Item) -> Answer:
    shown = {"@odata.context": call.context("messages/$entity"), **call.show(item)}
    return Answer(201, shown, {"Location": f"{call.here}/messages('{quote(shown['id'], safe='')}')"})


def _destination(call: Call) -> Folder:
    wanted = call.json("move").get("destinationId")
    if not wanted:
        raise bad_request("The parameter 'DestinationId' is missing from the request payload.", "ErrorInvalidParameter")
    return call.box.folder(wanted)


def check_basic(call: Call, asked: Query) -> None:
    """Mail.ReadBasic leaves out bodies, attachments and extended properties, questions about them too."""
    hidden = ("singleValueExtendedProperties", "body", "bodyPreview", "uniqueBody")
    filtered = asked.filter is not None and any(path.split("/")[0] in hidden for path in asked.filter.paths)
    if filtered or asked.shape.expands:
        _needs_read(call)


def _needs_read(call: Call) -> None:
    if not call.roles & READ:
        raise denied()
