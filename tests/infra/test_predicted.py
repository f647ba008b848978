"""What a deployment would make, held against what the code uses: all of it, and nothing more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mailroom import settings as settings_file
from mailroom.identity import Identity
from mailroom.model import places
from mailroom.storage.certificates import VaultCertificates
from tests.infra.bicep import ROOT
from tests.infra.code import environ_goes_to, sources, strings

Resource = dict[str, Any]

# Read by the Functions host, never by the code.
HOST_READS = {
    "AzureWebJobsStorage__credential",
    "AzureWebJobsStorage__clientId",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
}
PLATFORM_SETS = {"IDENTITY_ENDPOINT", "IDENTITY_HEADER"}
CONNECTION = "AzureWebJobsStorage"  # as itself a connection string, which is for local runs; its parts are settings of their own

# learn.microsoft.com/azure/role-based-access-control/built-in-roles: what each role lets us do, as far as it matters here.
GRANTS = {
    "Storage Blob Data Owner": {"blob read", "blob write", "container create", "delegation key", "blob lease of the host"},
    "Storage Queue Data Contributor": {"queue read", "queue create", "message put", "message take", "message delete"},
    "Storage Table Data Contributor": {"table create", "row read", "row write"},
    "Key Vault Secrets Officer": {"secret get", "secret set", "secret list"},
    "Key Vault Certificate User": {"secret get", "secret list", "certificate get", "certificate list"},
    "Key Vault Crypto User": {"key sign"},
    "Monitoring Metrics Publisher": {"telemetry write"},
}
# By the resource that it is wanted of. The first four services are ports.Store, ports.Vault and the triggers; the last two are the host's.
NEEDS = {
    "Microsoft.Storage/storageAccounts": {
        *("blob read", "blob write", "container create", "delegation key", "blob lease of the host"),
        *("queue read", "queue create", "message put", "message take", "message delete"),
        *("table create", "row read", "row write"),
    },
    "Microsoft.KeyVault/vaults": {"secret get", "secret set", "secret list", "certificate get", "certificate list", "key sign"},
    "Microsoft.Insights/components": {"telemetry write"},
}

INCLUDED_IN = {"Key Vault Secrets User": "Key Vault Secrets Officer", "Storage Blob Data Contributor": "Storage Blob Data Owner"}


class Recorder(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.asked.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> str:
        self.asked.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.asked.add(str(key))
        return super().__contains__(key)


def of_type(predicted: list[Resource], kind: str) -> list[Resource]:
    return [resource for resource in predicted if resource["type"] == kind]


def only(predicted: list[Resource], kind: str) -> Resource:
    [found] = of_type(predicted, kind)
    return found


def names(predicted: list[Resource], kind: str) -> list[str]:
    return [resource["name"].rsplit("/", 1)[-1] for resource in of_type(predicted, kind)]


def roles(predicted: list[Resource]) -> Iterator[tuple[str, str]]:
    """Of which type of resource, and which role."""
    for assignment in of_type(predicted, "Microsoft.Authorization/roleAssignments"):
        found = re.fullmatch(r"\[roleDefinitions\('(.+)'\)\.id\]", assignment["properties"]["roleDefinitionId"])
        scope = assignment["id"].rpartition("/providers/Microsoft.Authorization/")[0].split("/providers/")[-1].split("/")
        assert found, "a role has a name"
        assert len(scope) == 3, "a role is for one resource, never for the group"
        yield f"{scope[0]}/{scope[1]}", found[1]


@pytest.fixture(scope="session")
def site(predicted: list[Resource]) -> Resource:
    properties: Resource = only(predicted, "Microsoft.Web/sites")["properties"]
    return properties


def test_the_environment_has_few_readers() -> None:
    """Wiring hands the environment to those whom the next test watches reading it; nobody else looks."""
    handed = {path.relative_to(ROOT).as_posix(): environ_goes_to(path) for path in sources()}
    assert {file: readers for file, readers in handed.items() if readers} == {
        "mailroom/wiring.py": {"settings_file.locate", "settings_file.read", "Identity", "VaultCertificates"}
    }


def test_every_setting_and_nothing_more(site: Resource, client: httpx.AsyncClient) -> None:
    """The app has a setting for each environment variable that the code or the host reads, and no setting that nobody reads."""
    env = Recorder()
    settings_file.locate(ROOT, env)
    settings_file.read(ROOT / "accounts.example.toml", env)
    Identity(client, env)
    VaultCertificates("https://kv.vault.azure.net", env)
    assert {setting["name"] for setting in site["siteConfig"]["appSettings"]} == env.asked - PLATFORM_SETS - {CONNECTION} | HOST_READS


def test_the_settings_load(site: Resource) -> None:
    """The code takes the settings as the app gets them: accounts.toml of the package, endpoints by identity, no key."""
    given = {setting["name"]: setting["value"] for setting in site["siteConfig"]["appSettings"]}
    env = given | {f"{CONNECTION}__{service}ServiceUri": f"https://st.{service}.core.windows.net" for service in ("blob", "queue", "table")}
    env |= {"MAILROOM_VAULT_URL": "https://kv.vault.azure.net", "AZURE_CLIENT_ID": "6f4b2b0c-29f4-4a0d-9a36-2e3d1b3c4d5e"}
    assert settings_file.locate(ROOT, env) == ROOT / "accounts.toml"
    settings = settings_file.read(ROOT / "accounts.example.toml", env)
    assert settings.storage is not None
    assert settings.storage.key is None
    assert settings.storage.blob == "https://st.blob.core.windows.net"
    assert settings.identity_client_id == env["AZURE_CLIENT_ID"]
    assert settings.vault_url == env["MAILROOM_VAULT_URL"]


def test_every_place_and_nothing_more(predicted: list[Resource], site: Resource) -> None:
    """Containers, queues and tables are those of mailroom/model/places.py, and the container of the package."""
    package = "app-package"
    assert sorted(names(predicted, "Microsoft.Storage/storageAccounts/blobServices/containers")) == sorted([package, *places.CONTAINERS])
    assert sorted(names(predicted, "Microsoft.Storage/storageAccounts/queueServices/queues")) == sorted(places.QUEUES)
    assert sorted(names(predicted, "Microsoft.Storage/storageAccounts/tableServices/tables")) == sorted(places.TABLES)
    assert "packageContainer" in site["functionAppConfig"]["deployment"]["storage"]["value"]


def test_places_are_named_once() -> None:
    """No other file of the code spells the name of a queue, container or table that places.py does not know."""
    known = {*places.CONTAINERS, *places.QUEUES, *places.TABLES}
    spelt = {text for path in sources() for text in strings(path) if re.fullmatch(r"mail-[a-z-]+|Mail[A-Z][A-Za-z]+", text)}
    assert spelt - known - {"MailroomStamp"} == set()


def test_a_queue_that_is_listened_to_has_its_poison_queue() -> None:
    """Else a message that fails for good would stay hidden and come back for ever."""
    listened = {places.OUTBOX_QUEUE, places.SYNC_QUEUE}
    assert {f"{queue}-poison" for queue in listened} <= set(places.QUEUES)


def test_every_role_and_nothing_more(predicted: list[Resource]) -> None:
    """Each need is granted on its resource, by roles of which none could be left out."""
    granted = list(roles(predicted))
    assert len(set(granted)) == len(granted)
    for kind, needs in NEEDS.items():
        here = {role for scope, role in granted if scope == kind}
        assert needs <= set().union(*(GRANTS[role] for role in here))
        for role in here:
            rest = set().union(*(GRANTS[other] for other in here - {role}))
            assert needs - rest, f"{role} is not needed on {kind}"
    assert {scope for scope, _ in granted} == set(NEEDS)


OF_A_PERSON = {"Key Vault Certificates Officer"}  # who runs `mailroom certificate`; the app itself makes no certificate


def test_roles_that_the_code_asks_for_are_there(predicted: list[Resource]) -> None:
    """When Azure refuses, the code names the role that is missing: one that the deployment gives, or that a given one includes."""
    asked = {
        text
        for path in sources()
        for text in strings(path)
        if re.fullmatch(r"(Key Vault|Storage) [A-Z][A-Za-z ]+ (User|Officer|Owner|Contributor|Reader)", text)
    }
    given = {role for _, role in roles(predicted)}
    assert asked >= OF_A_PERSON
    assert {role for role in asked - OF_A_PERSON if role not in given and INCLUDED_IN.get(role) not in given} == set()


def test_one_identity_has_them_all(predicted: list[Resource], site: Resource) -> None:
    """Roles go to the one user-assigned identity, which is also what the app runs and deploys as."""
    assert only(predicted, "Microsoft.ManagedIdentity/userAssignedIdentities")["location"] == "northeurope"
    assert only(predicted, "Microsoft.Web/sites")["identity"]["type"] == "UserAssigned"
    assert site["functionAppConfig"]["deployment"]["storage"]["authentication"]["type"] == "UserAssignedIdentity"
    for assignment in of_type(predicted, "Microsoft.Authorization/roleAssignments"):
        assert assignment["properties"]["principalType"] == "ServicePrincipal"
        assert assignment["properties"]["principalId"].endswith(".outputs.principalId.value]")


def test_no_key_opens_storage(predicted: list[Resource]) -> None:
    """No shared key, nothing public, no plain http."""
    account = only(predicted, "Microsoft.Storage/storageAccounts")["properties"]
    assert (account["allowSharedKeyAccess"], account["allowBlobPublicAccess"]) == (False, False)
    assert (account["supportsHttpsTrafficOnly"], account["minimumTlsVersion"]) == (True, "TLS1_2")
    containers = of_type(predicted, "Microsoft.Storage/storageAccounts/blobServices/containers")
    assert {container["properties"]["publicAccess"] for container in containers} == {"None"}


def test_no_key_or_password_anywhere(predicted: list[Resource], site: Resource) -> None:
    """Telemetry wants an identity, deployments want an identity, and no setting holds a key."""
    assert only(predicted, "Microsoft.Insights/components")["properties"]["DisableLocalAuth"] is True
    assert only(predicted, "Microsoft.OperationalInsights/workspaces")["properties"]["features"]["disableLocalAuth"] is True
    doors = of_type(predicted, "Microsoft.Web/sites/basicPublishingCredentialsPolicies")
    assert {door["name"].rsplit("/", 1)[-1]: door["properties"]["allow"] for door in doors} == {"ftp": False, "scm": False}
    assert not re.search(r"AccountKey=|SharedAccess|listKeys|sig=|@Microsoft\.KeyVault", str(site))


def test_the_vault_forgets_nothing_by_accident(predicted: list[Resource]) -> None:
    """Soft delete with purge protection, and access by role alone."""
    vault = only(predicted, "Microsoft.KeyVault/vaults")["properties"]
    assert (vault["enableSoftDelete"], vault["enablePurgeProtection"], vault["softDeleteRetentionInDays"]) == (True, True, 90)
    assert vault["enableRbacAuthorization"] is True
    assert "accessPolicies" not in vault


def test_the_app_is_what_the_code_is_tested_on(predicted: list[Resource], site: Resource) -> None:
    """Flex Consumption, Python 3.13, https, found by azd by its tag."""
    resource = only(predicted, "Microsoft.Web/sites")
    assert only(predicted, "Microsoft.Web/serverfarms")["sku"] == {"tier": "FlexConsumption", "name": "FC1"}
    assert site["functionAppConfig"]["runtime"] == {"name": "python", "version": "3.13"}
    assert site["httpsOnly"] is True
    [service] = re.findall(r"(?m)^services:\n  (\w+):", (ROOT / "azure.yaml").read_text())
    assert resource["tags"] == {"azd-service-name": service}


def test_nothing_else_is_made(predicted: list[Resource]) -> None:
    """No resource of a type that is not accounted for above."""
    assert {resource["type"] for resource in predicted} == {
        "Microsoft.Authorization/roleAssignments",
        "Microsoft.Insights/components",
        "Microsoft.KeyVault/vaults",
        "Microsoft.ManagedIdentity/userAssignedIdentities",
        "Microsoft.OperationalInsights/workspaces",
        "Microsoft.Storage/storageAccounts",
        "Microsoft.Storage/storageAccounts/blobServices",
        "Microsoft.Storage/storageAccounts/blobServices/containers",
        "Microsoft.Storage/storageAccounts/queueServices",
        "Microsoft.Storage/storageAccounts/queueServices/queues",
        "Microsoft.Storage/storageAccounts/tableServices",
        "Microsoft.Storage/storageAccounts/tableServices/tables",
        "Microsoft.Web/serverfarms",
        "Microsoft.Web/sites",
        "Microsoft.Web/sites/basicPublishingCredentialsPolicies",
    }
