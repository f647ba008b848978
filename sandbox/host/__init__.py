"""A local Azure Functions host for HTTP, queue and timer triggers, for machines without Core Tools.

It runs a `function_app.py` through azure.functions' public API with host.json's semantics, as Microsoft's own listeners have them.
"""
