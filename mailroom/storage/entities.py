"""Table rows as the Table service writes them: OData JSON entities, keys in addresses, filters.

learn.microsoft.com/rest/api/storageservices: "Payload format for Table service operations", "Understanding the Table service data model"
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from mailroom.model.row import Row, Value

_SYSTEM = frozenset({"PartitionKey", "RowKey", "Timestamp"})
_FORBIDDEN_IN_KEYS = re.compile(r"[/\\#?\x00-\x1f\x7f-\x9f]")
_NOT_FINITE = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}


def encode(row: Row) -> bytes:
    entity: dict[str, Any] = {"PartitionKey": row.partition, "RowKey": row.key}
    for name, value in row.values.items():
        if isinstance(value, str | bool):
            entity[name] = value
        else:
            entity[f"{name}@odata.type"], entity[name] = _typed(value)
    return msgspec.json.encode(entity)


def decode(entity: Mapping[str, Any], etag: str = "") -> Row:
    """From minimal metadata, which names the types that JSON cannot tell apart, and leaves the ETag to be made of the timestamp."""
    values = {
        name: _value(value, entity.get(f"{name}@odata.type"))
        for name, value in entity.items()
        if name not in _SYSTEM and not name.startswith("odata.") and not name.endswith("@odata.type")
    }
    etag = etag or entity.get("odata.etag") or f"W/\"datetime'{quote(entity['Timestamp'])}'\""
    return Row(entity["PartitionKey"], entity["RowKey"], values, etag)


def address(table: str, partition: str, key: str) -> str:
    return f"/{table}(PartitionKey='{_literal(partition)}',RowKey='{_literal(key)}')"


def selection(partition: str, first: str, last: str) -> str:
    """The `$filter` for rows of one partition from `first` to before `last`, escaped for a query string."""
    terms = [f"PartitionKey eq '{_doubled(partition)}'"]
    if first:
        terms.append(f"RowKey ge '{_doubled(first)}'")
    if last:
        terms.append(f"RowKey lt '{_doubled(last)}'")
    return quote(" and ".join(terms), safe="")


def created_before(time: float) -> str:
    """The `$filter` for rows by age, escaped for a query string; `created` is a double, and a double's literal has a point."""
    return quote(f"created lt {time:.3f}", safe="")


def check_key(key: str) -> str:
    """Tables refuse these characters with a bare 400; whoever makes keys of what users wrote should hear it by name."""
    if found := _FORBIDDEN_IN_KEYS.search(key):
        raise ValueError(f"a table key may not contain {found[0]!r}")
    return key


def _typed(value: float | bytes) -> tuple[str, str | float]:
    if isinstance(value, int):
        return "Edm.Int64", str(value)
    if isinstance(value, float):
        return "Edm.Double", value if math.isfinite(value) else _NOT_FINITE[str(value)]
    return "Edm.Binary", base64.b64encode(value).decode()


def _value(value: Any, edm_type: str | None) -> Value:
    if edm_type == "Edm.Int64":
        return int(value)
    if edm_type == "Edm.Binary":
        return base64.b64decode(value)
    if edm_type == "Edm.Double" or type(value) is int:  # a whole double may come without its point; Int32 we never write
        return float(value)
    known: Value = value
    return known


def _doubled(key: str) -> str:
    return key.replace("'", "''")


def _literal(key: str) -> str:
    return quote(_doubled(check_key(key)), safe="")
