"""Microsoft Entra ID: signs applications in and publishes the keys of its tokens."""

from sandbox.entra.app import create

__all__ = ["create"]
