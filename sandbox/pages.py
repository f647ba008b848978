"""Pages to look into the mailboxes. A mail is shown as text and source, never as live HTML: strangers may have written it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from urllib.parse import quote

from sandbox.graph import mime
from sandbox.graph.errors import not_found
from sandbox.graph.items import Item, address_of
from sandbox.graph.mailbox import Mailbox

SHOWN = 200  # of the newest mails of a folder
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1d2330}"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #d8dce5}"
    "pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f4f5f8;padding:1rem}h1{font-size:1.4rem}h2{font-size:1.1rem}"
)


def mailboxes(boxes: list[Mailbox]) -> str:
    rows = [(_link(_where(box), box.address), *(str(len(box.folder(name).items)) for name in ("inbox", "sentitems"))) for box in boxes]
    return _page("Mailboxes", _table(("Mailbox", "Inbox", "Sent"), rows))


def mailbox(box: Mailbox) -> str:
    parts: list[str] = []
    for folder in box.folders.values():
        newest = list(folder.newest_first())[:SHOWN]
        rows = [(_time(item), _link(_where(box, item), item.props.get("subject") or "(no subject)"), *_people(item)) for item in newest]
        title = f"<h2>{escape(folder.name)}: {len(folder.items)}</h2>"
        parts += [title, _table(("Time", "Subject", "From", "To"), rows)] if rows else []
    return _page(box.address, "".join(parts) or "<p>No mail yet.</p>")


def mail(box: Mailbox, item: Item) -> str:
    body = item.props["body"]
    text = mime.text_of(body["content"]) if body["contentType"] == "html" else body["content"]
    files = "".join(f"<li>{escape(one.name)}, {escape(one.content_type)}, {len(one.content)} bytes</li>" for one in item.attachments)
    sender, to = _people(item)
    source = mime.source(item).decode("utf-8", "replace")
    return _page(
        item.props.get("subject") or "(no subject)",
        f"<p>{sender} to {to}, {_time(item)}, in {escape(item.folder.name)} of {_link(_where(box), box.address)}</p>"
        f"<pre>{escape(text)}</pre><ul>{files}</ul>"
        f"<h2>{_link(f'{_where(box, item)}/source', 'Source')}</h2><pre>{escape(source)}</pre>",
    )


def find(box: Mailbox, number: int) -> Item:
    found = next((item for folder in box.folders.values() if (item := folder.items.get(number))), None)
    if found is None:
        raise not_found()
    return found


def _page(title: str, body: str) -> str:
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{escape(title)}</h1>{body}</body></html>'


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Cells are HTML already."""
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _link(path: str, text: str) -> str:
    return f'<a href="{escape(path)}">{escape(text)}</a>'


def _where(box: Mailbox, item: Item | None = None) -> str:
    return f"/mailboxes/{quote(box.address)}" + (f"/{item.number}" if item else "")


def _time(item: Item) -> str:
    return f"{item.props['receivedDateTime']:%Y-%m-%d %H:%M:%S}"


def _people(item: Item) -> tuple[str, str]:
    return escape(address_of(item.props.get("from"))), escape(", ".join(item.recipients))
