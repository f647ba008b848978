"""Rows as the Table service's JSON, their addresses, and changes as its transactions."""

from __future__ import annotations

import json
from urllib.parse import unquote

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from mailroom.model.row import Change, Row, Value
from mailroom.storage import changes, entities

names = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True)
values: st.SearchStrategy[Value] = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(),
)
keys = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\#?"), min_size=1)


@given(keys, keys, st.dictionaries(names, values))
def test_a_row_comes_back_as_it_was(partition: str, key: str, content: dict[str, Value]) -> None:
    """Through our JSON and back every value keeps its type."""
    row = Row(partition, key, content, "e")
    found = entities.decode(msgspec.json.decode(entities.encode(row)), "e")
    assert found == row
    assert [type(value) for value in found.values.values()] == [type(value) for value in content.values()]


def test_types_are_written_as_the_service_wants_them() -> None:
    """Int64 is a string with its type beside it, bytes are base64, infinity has a name."""
    entity = json.loads(entities.encode(Row("p", "k", {"n": 5, "f": 2.0, "i": float("-inf"), "b": b"\x00", "t": True, "s": "x"})))
    assert entity == {
        "PartitionKey": "p",
        "RowKey": "k",
        "n@odata.type": "Edm.Int64",
        "n": "5",
        "f@odata.type": "Edm.Double",
        "f": 2.0,
        "i@odata.type": "Edm.Double",
        "i": "-Infinity",
        "b@odata.type": "Edm.Binary",
        "b": "AA==",
        "t": True,
        "s": "x",
    }


def test_an_answer_of_the_service_is_read() -> None:
    """Minimal metadata leaves out the types of what JSON can tell, and the ETag, which is made of the timestamp."""
    answer = {
        "odata.metadata": "https://a.table.core.windows.net/$metadata#MailLedger/@Element",
        "PartitionKey": "p",
        "RowKey": "k",
        "Timestamp": "2026-11-24T19:35:00.4599542Z",
        "whole": 3,
        "half": 0.5,
        "n@odata.type": "Edm.Int64",
        "n": "9007199254740993",
        "nan@odata.type": "Edm.Double",
        "nan": "NaN",
        "when@odata.type": "Edm.DateTime",
        "when": "2026-11-24T00:00:00Z",
    }
    row = entities.decode(answer)
    assert row.etag == "W/\"datetime'2026-11-24T19%3A35%3A00.4599542Z'\""
    nan = row.values.pop("nan")
    assert nan != nan
    assert row.values == {"whole": 3.0, "half": 0.5, "n": 9007199254740993, "when": "2026-11-24T00:00:00Z"}
    assert isinstance(row.values["whole"], float)


@given(keys, keys)
def test_an_address_names_the_row(partition: str, key: str) -> None:
    """Nothing in a key can end its quotes or its place in the path."""
    address = entities.address("T", partition, key)
    assert address.isascii()
    assert not set(address) & set(' /?#&\\"') - {"/"}
    assert address.count("/") == 1
    assert address.count("'") == 4
    assert unquote(address) == "/T(PartitionKey='{}',RowKey='{}')".format(partition.replace("'", "''"), key.replace("'", "''"))


def test_a_transaction_is_written_as_documented() -> None:
    """Each part names its full address and carries its own condition; the deletion has no body."""
    asked = changes.transaction(
        "https://a.table.example",
        "T",
        [Change("insert", Row("p", "k", {"v": "x"})), Change("merge", Row("p", "l", {}, "e")), Change("delete", Row("p", "m"))],
    )
    boundary = asked.headers["content-type"].removeprefix("multipart/mixed; boundary=batch_")
    part = f"--changeset_{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    json_ = "accept: application/json;odata=nometadata\r\n"
    assert asked.body.decode() == (
        f"--batch_{boundary}\r\nContent-Type: multipart/mixed; boundary=changeset_{boundary}\r\n\r\n"
        f"{part}POST https://a.table.example/T HTTP/1.1\r\n{json_}content-type: application/json\r\nprefer: return-no-content\r\n\r\n"
        '{"PartitionKey":"p","RowKey":"k","v":"x"}\r\n'
        f"{part}PATCH https://a.table.example/T(PartitionKey='p',RowKey='l') HTTP/1.1\r\n{json_}if-match: e\r\n"
        "content-type: application/json\r\n\r\n"
        '{"PartitionKey":"p","RowKey":"l"}\r\n'
        f"{part}DELETE https://a.table.example/T(PartitionKey='p',RowKey='m') HTTP/1.1\r\n{json_}if-match: *\r\n\r\n\r\n"
        f"--changeset_{boundary}--\r\n--batch_{boundary}--\r\n"
    )


AZURE = (
    b"--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_2\r\n\r\n"
    b"--changesetresponse_2\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nHTTP/1.1 204 No Content\r\n"
    b"X-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\nPreference-Applied: return-no-content\r\nDataServiceVersion: 3.0;\r\n"
    b"Location: https://a/T(PartitionKey='p',RowKey='k')\r\nDataServiceId: https://a/T\r\nETag: W/\"datetime'1'\"\r\n\r\n\r\n"
    b"--changesetresponse_2\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nHTTP/1.1 204 No Content\r\n"
    b"X-Content-Type-Options: nosniff\r\nDataServiceVersion: 1.0;\r\n\r\n\r\n--changesetresponse_2--\r\n--batchresponse_1--\r\n"
)


def test_an_answer_to_a_transaction_is_read() -> None:
    """One outcome for each change, in order, with the ETag where there is one."""
    assert changes.outcomes(AZURE) == [changes.Outcome(204, "W/\"datetime'1'\""), changes.Outcome(204)]


@given(st.binary(max_size=200), st.integers(0, len(AZURE)))
def test_no_answer_breaks_the_reader(noise: bytes, cut: int) -> None:
    """Whatever comes in an answer's place is read as some outcomes or none, never as an exception."""
    for body in (noise, AZURE[:cut], AZURE[:cut] + noise + AZURE[cut:]):
        assert all(isinstance(outcome, changes.Outcome) for outcome in changes.outcomes(body))
