"""Google, as far as Mailroom uses it: sign-in of service accounts, workload identity federation, and Gmail."""

from sandbox.google.app import Google, create
from sandbox.google.workspace import ServiceAccount, Workspace

__all__ = ["Google", "ServiceAccount", "Workspace", "create"]
