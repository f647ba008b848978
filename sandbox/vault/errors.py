"""How Key Vault refuses: code, message, and an inner code where the service gives one."""

from __future__ import annotations

from typing import Any


class VaultError(Exception):
    def __init__(self, status: int, code: str, message: str, inner: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.inner = inner

    @property
    def body(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.inner:
            error["innererror"] = {"code": self.inner}
        return {"error": error}


def bad_parameter(message: str) -> VaultError:
    return VaultError(400, "BadParameter", message)


def not_found(kind: str, name: str) -> VaultError:
    message = (
        f"A {kind.lower()} with (name/id) {name} was not found in this key vault. If you recently deleted this {kind.lower()} you may be "
        "able to recover it using the correct recovery command. For help resolving this issue, please see "
        "https://go.microsoft.com/fwlink/?linkid=2125182"
    )
    return VaultError(404, f"{kind}NotFound", message)


def deleted(kind: str, name: str) -> VaultError:
    message = (
        f"{kind} {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the "
        f"{kind.lower()} can only be recovered or purged."
    )
    return VaultError(409, "Conflict", message, "ObjectIsDeletedButRecoverable")


def disabled(kind: str) -> VaultError:
    return VaultError(403, "Forbidden", f"Operation get is not allowed on a disabled {kind.lower()}.", f"{kind}Disabled")
