"""Graph's mail, as far as Mailroom and other people's clients use it: `create(directory, faults)` is an ASGI application."""

from sandbox.graph.app import Graph, create

__all__ = ["Graph", "create"]
