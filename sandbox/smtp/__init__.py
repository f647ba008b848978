"""Exchange Online's SMTP: client submission with XOAUTH2 and OAUTHBEARER, and a relay that knows its clients otherwise."""

from sandbox.smtp.serve import Listening, serve

__all__ = ["Listening", "serve"]
