"""Where each cloud's services are, and `[clouds.NAME]` for clouds of one's own.

learn.microsoft.com: graph/deployments, entra/identity-platform/authentication-national-cloud,
azure/key-vault/general/about-keys-secrets-certificates. Tokens for storage are asked for by one name in every cloud:
azure/storage/blobs/authorize-access-azure-active-directory.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from mailroom.model.account import Cloud
from mailroom.settings.table import Shape, Table

STORAGE = "https://storage.azure.com"

CLOUDS = {
    "public": Cloud(
        authority="https://login.microsoftonline.com",
        graph="https://graph.microsoft.com/v1.0",
        graph_scope="https://graph.microsoft.com/.default",
        vault_resource="https://vault.azure.net",
        storage_resource=STORAGE,
    ),
    "usgov": Cloud(  # GCC High; GCC is in the public cloud
        authority="https://login.microsoftonline.us",
        graph="https://graph.microsoft.us/v1.0",
        graph_scope="https://graph.microsoft.us/.default",
        vault_resource="https://vault.usgovcloudapi.net",
        storage_resource=STORAGE,
        outlook_scope="https://outlook.office365.us/.default",
        smtp="smtp.office365.us:587",
        exchange_audience="api://AzureADTokenExchangeUSGov",
    ),
    "usgov-dod": Cloud(
        authority="https://login.microsoftonline.us",
        graph="https://dod-graph.microsoft.us/v1.0",
        graph_scope="https://dod-graph.microsoft.us/.default",
        vault_resource="https://vault.usgovcloudapi.net",
        storage_resource=STORAGE,
        outlook_scope="https://outlook-dod.office365.us/.default",
        smtp="outlook-dod.office365.us:587",
        exchange_audience="api://AzureADTokenExchangeUSGov",
    ),
    "china": Cloud(  # operated by 21Vianet
        authority="https://login.partner.microsoftonline.cn",
        graph="https://microsoftgraph.chinacloudapi.cn/v1.0",
        graph_scope="https://microsoftgraph.chinacloudapi.cn/.default",
        vault_resource="https://vault.azure.cn",
        storage_resource=STORAGE,
        sts="https://sts.chinacloudapi.cn",
        outlook_scope="https://partner.outlook.cn/.default",
        smtp="smtp.partner.outlook.cn:587",
        exchange_audience="api://AzureADTokenExchangeChina",
    ),
}

_HOST = r"https://[A-Za-z0-9.-]+(:\d+)?"
AUTHORITY = Shape(re.compile(_HOST), "should be https://HOST without a tenant and without a slash at its end")
RESOURCE = Shape(re.compile(_HOST), "should be https://HOST without a slash at its end")
GRAPH = Shape(
    re.compile(r"(https://[A-Za-z0-9.-]+|http://(localhost|127\.0\.0\.1))(:\d+)?(/[^/?#\s]+)*/v1\.0"), "should be https://HOST/v1.0"
)
SCOPE = Shape(re.compile(r"\S+/\.default"), "should end in /.default: application permissions know no other scope")
SERVER = Shape(re.compile(r"[A-Za-z0-9.-]+:\d{1,5}"), "should be HOST:PORT")
AUDIENCE = Shape(re.compile(r"(api|https)://\S+"), "should be an App ID URI, such as api://AzureADTokenExchange")
SHAPES = {
    "authority": AUTHORITY,
    "graph": GRAPH,
    "graph_scope": SCOPE,
    "vault_resource": RESOURCE,
    "storage_resource": RESOURCE,
    "sts": RESOURCE,
    "outlook_scope": SCOPE,
    "smtp": SERVER,
    "exchange_audience": AUDIENCE,
    "gmail": RESOURCE,
    "gmail_smtp": SERVER,
    "google_authority": RESOURCE,
    "google_sts": RESOURCE,
    "google_iam": RESOURCE,
}


def read(file: Table) -> dict[str, Cloud]:
    """The known clouds and the file's own. One without a `base` must say itself where its sign-in, Graph and vault are."""
    clouds = dict(CLOUDS)
    for name, table in file.tables("clouds"):
        if name in CLOUDS:
            file.table("clouds").wrong(name, "found the name of a known cloud", f'choose another name, with base = "{name}"')
            continue
        clouds[name] = _cloud(table)
    return clouds


def _cloud(table: Table) -> Cloud:
    base = CLOUDS.get(table.choice("base", CLOUDS)) if "base" in table else None
    if base is None:
        graph = urlsplit(str(table.raw("graph")))
        own = {"authority", "graph", "vault_resource"}
        public = {key: value for key, value in msgspec.structs.asdict(CLOUDS["public"]).items() if key not in own}
        defaults = public | {"graph_scope": f"{graph.scheme}://{graph.netloc}/.default"}
    else:
        defaults = msgspec.structs.asdict(base)
    cloud = Cloud(**{key: table.text(key, defaults.get(key), shape=shape) for key, shape in SHAPES.items()})
    table.done({"base"})
    return cloud
