"""OAuth 2.0 mail as serverless functions."""

__version__ = "0.1.0"
