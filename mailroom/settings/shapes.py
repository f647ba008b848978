"""What texts in accounts.toml must look like."""

from __future__ import annotations

import re

from mailroom.settings.table import Shape

_GUID = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_DOMAIN = r"([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9]"

GUID = Shape(re.compile(_GUID), "should be a GUID, such as 66666666-7777-8888-9999-000000000000 (Entra: application (client) ID)")
TENANT = Shape(re.compile(f"{_GUID}|{_DOMAIN}"), "should be the tenant's GUID or one of its domains, such as example.onmicrosoft.com")
ADDRESS = Shape(re.compile(rf"[^\s@<>\"(),:;\[\\\]]+@{_DOMAIN}"), "should be an address with a domain, such as billing@example.com")
VAULT_NAME = Shape(
    re.compile(r"[0-9A-Za-z-]{1,127}"),
    "should be the name that the secret or certificate has in the vault (letters, digits and -), never the secret itself",
)
SCHEDULE = Shape(re.compile(r"[0-9A-Za-z*,/-]+( +[0-9A-Za-z*,/-]+){5}"), "should be six fields: second minute hour day month weekday")
