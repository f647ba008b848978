"""Attachments that no request could carry: put to the URL that we hand out, named by a mail, and there byte for byte."""

from __future__ import annotations

import base64
import random
import uuid
from typing import Any

import httpx
import pytest

from tests.journey.conftest import Town

pytestmark = pytest.mark.slow


def uploaded(town: Town, content: bytes) -> str:
    """The name of a new upload, as a client of ours makes it: nothing but what the answer says."""
    answer = town.api.post("attachments")
    assert answer.status_code == 201, answer.text
    told = answer.json()
    with httpx.Client(trust_env=False, timeout=60) as anybody:
        anybody.request(told["method"], told["url"], content=content, headers=told["headers"]).raise_for_status()
    return str(told["blob"])


def settled(town: Town, answer: httpx.Response) -> Any:
    assert answer.status_code == 202, answer.text
    where = answer.headers["Location"].removeprefix("/api/")
    return town.until(lambda: view if (view := town.api.get(where).json())["status"] not in ("pending", "sending") else None)


def files(town: Town, mailbox: str, subject: str) -> dict[str, bytes]:
    """What is attached to the mail of that subject in that inbox."""
    bearer = {"Authorization": f"Bearer {town.token('graph', 'https://graph.microsoft.com/.default')}"}
    inbox = f"{town.told['graph']}/users/{mailbox}/mailFolders/inbox/messages"
    [mail] = town.plain.get(inbox, params={"$filter": f"subject eq '{subject}'"}, headers=bearer).json()["value"]
    there = f"{town.told['graph']}/users/{mailbox}/messages/{mail['id']}/attachments"
    listed = town.plain.get(there, params={"$select": "id,name"}, headers=bearer).json()["value"]
    return {one["name"]: town.plain.get(f"{there}/{one['id']}/$value", headers=bearer).content for one in listed}


def subject() -> str:
    return f"Large {uuid.uuid4().hex[:12]}"


def test_a_pdf_of_20_mb_arrives(town: Town) -> None:
    """Uploaded, named, sent once, and in the recipient's inbox byte for byte."""
    name, pdf = subject(), b"%PDF-1.7\n" + random.Random(7).randbytes(20 * 1024 * 1024)
    attachment = {"name": "Plan Nº 7.pdf", "type": "application/pdf", "blob": uploaded(town, pdf)}
    view = settled(town, town.api.post("messages", json=town.mail(to=[town.support], subject=name, attachments=[attachment])))
    assert (view["status"], view["path"]) == ("sent", "draft"), view
    assert [row["copies"] for row in town.sent(name)] == [1]
    assert files(town, town.support, name) == {"Plan Nº 7.pdf": pdf}


def test_a_small_upload_is_sent_before_the_answer(town: Town) -> None:
    """What fits one request needs no draft, and one upload may go with many mails."""
    names, blob = [subject(), subject()], uploaded(town, b"small")
    mails = [town.mail(to=[town.support], subject=name, attachments=[{"name": "a.txt", "blob": blob}]) for name in names]
    first = town.api.post("messages", json=mails[0]).json()
    assert (first["status"], first["path"]) == ("sent", "sendMail"), first
    batch = town.api.post("batches", json=mails[1:])
    town.until(lambda: town.api.get(batch.headers["Location"].removeprefix("/api/")).json()["counts"]["sent"])
    assert [files(town, town.support, name) for name in names] == [{"a.txt": b"small"}] * 2


def test_a_wrong_upload_is_named(town: Town) -> None:
    """In a mail and in a line of a batch: which field, what was found, and what to do."""
    blob = uploaded(town, b"there")
    wrong = town.mail(attachments=[{"name": "a", "blob": blob}, {"name": "b", "blob": "nowhere"}])
    answer = town.api.post("messages", json=wrong)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (400, "upload_missing", "attachments[1].blob")
    assert "/api/attachments" in answer.json()["next_step"]
    batch = town.api.post("batches", json=[town.mail(), wrong])
    assert (batch.status_code, batch.json()["field"]) == (400, "line 2: attachments[1].blob")
    partial = town.api.post("batches", json=[town.mail(), wrong], params={"partial": "true"})
    assert [(one["line"], one["code"]) for one in partial.json()["refused"]] == [(2, "upload_missing")]


def test_too_much_in_the_request_names_the_way_out(town: Town) -> None:
    """413 with the limit, and the upload as the next step; whatever the request looks like."""
    large = town.mail(attachments=[{"name": "a.pdf", "content": base64.b64encode(bytes(4_000_000)).decode()}])
    answer = town.api.post("messages", json=large)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (413, "mail_too_large_for_path", "attachments")
    assert "4194304" in answer.json()["detail"]
    assert "/api/attachments" in answer.json()["next_step"]
    huge = town.api.post("messages", content=b"x" * (51 * 1024 * 1024))
    assert (huge.status_code, huge.json()["code"]) == (413, "request_too_large")
    assert "/api/attachments" in huge.json()["next_step"]


def test_nobody_gets_a_link_without_a_token(town: Town) -> None:
    """The door for uploads is the same gate."""
    answer = town.plain.post(f"{town.told['functions']}/attachments")
    assert (answer.status_code, answer.json()["code"]) == (401, "token_missing")
