"""Azure Key Vault: secrets, certificates and their keys, behind its authentication challenge."""

from sandbox.vault.app import create, url
from sandbox.vault.contents import Vault

__all__ = ["Vault", "create", "url"]
