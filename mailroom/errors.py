"""What can go wrong. Each error answers its catcher's question: which code, whose fault, again or not, and when.

MailroomError                 code, detail, next_step; status is its HTTP answer
├── BadInput                  the request is wrong: field, found, wanted (400)
│   ├── TooLarge              over a limit that is named (413)
│   └── BadSettings           accounts.toml or the environment is wrong: every mistake at once
├── Unauthorized              no token, or one that fails a check (401)
├── Forbidden                 a good token that may not do this (403)
├── NotFound                  nothing here by that name for this caller (404)
├── Conflict                  the same key or id, another request (409)
├── AccountFault              the account, its vault or its authority: mails stay pending, their lane pauses (502)
│   ├── AuthorityRefused      the authority answered no: AADSTS code and what to do about it
│   ├── AuthorityDown         the authority did not answer, or asked to wait (503)
│   ├── VaultRefused          a secret or certificate is missing, expired, wrong or forbidden
│   ├── VaultDown             the vault did not answer, or asked to wait (503)
│   └── IdentityDown          the platform's identity endpoint gave no token (503)
├── StorageDown               storage did not answer: nothing was accepted (503)
│   └── LedgerNewer           a row that a newer version wrote: left alone until that version runs again
├── StorageConflict           a conditional write lost: someone else was there first
└── ProviderError             what a provider's answer to one mail means
    ├── Refused               a fault of the mail itself; it will never go like this (422)
    ├── TokenRejected         401: this very token is no good any more; nothing was sent
    ├── NotSent               surely not sent, and not the mail's fault; again after retry_after
    ├── Throttled             429 or 503: probably not sent, no proof; ask before sending again
    └── DeliveryInDoubt       the answer is lost or says nothing: ask before sending again
"""


class MailroomError(Exception):
    """`code` is stable and for programs; `detail` says what was found; `next_step` says what would be right, else the kind's usual step."""

    status = 500
    retryable = False
    usual_step = ""

    def __init__(self, code: str, detail: str, next_step: str = "", *, retry_after: float | None = None) -> None:
        next_step = next_step or self.usual_step
        super().__init__(f"{code}: {detail}" + (f" {next_step}" if next_step else ""))
        self.code = code
        self.detail = detail
        self.next_step = next_step
        self.retry_after = retry_after


class BadInput(MailroomError):
    """`field` is the path of the wrong value, such as `to[3]` or `line 17: subject`; "" for the request as a whole."""

    status = 400

    def __init__(self, code: str, detail: str, next_step: str = "", *, field: str = "") -> None:
        super().__init__(code, detail, next_step)
        self.field = field


class TooLarge(BadInput):
    status = 413


class BadSettings(BadInput):
    """`mistakes` holds one line for each: key path, what was found, what would be right."""

    status = 500

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("settings_invalid", "\n".join(mistakes))
        self.mistakes = mistakes


class Unauthorized(MailroomError):
    status = 401


class Forbidden(MailroomError):
    status = 403


class NotFound(MailroomError):
    status = 404


class Conflict(MailroomError):
    status = 409


class AccountFault(MailroomError):
    status = 502


class AuthorityRefused(AccountFault):
    """The OAuth 2.0 error answer (RFC 6749, 5.2); `error` is its `error` member, the two ids find it in the sign-in log."""

    def __init__(
        self, code: str, detail: str, next_step: str = "", *, error: str = "", trace_id: str = "", correlation_id: str = ""
    ) -> None:
        super().__init__(code, detail, next_step)
        self.error = error
        self.trace_id = trace_id
        self.correlation_id = correlation_id


class AuthorityDown(AccountFault):
    status = 503
    retryable = True
    usual_step = "This passes by itself; if it lasts, check the profile's `cloud` and that the app's network lets it out to the authority."


class VaultRefused(AccountFault):
    pass


class VaultDown(AccountFault):
    status = 503
    retryable = True
    usual_step = "This passes by itself; if it lasts, check MAILROOM_VAULT_URL and that the vault's firewall lets the app in."


class IdentityDown(AccountFault):
    status = 503
    retryable = True
    usual_step = "This passes by itself; if it lasts, restart the app: the identity endpoint is a part of its platform."


class StorageDown(MailroomError):
    status = 503
    retryable = True
    usual_step = "Try again a little later; with the same Idempotency-Key it is the same mail."


class LedgerNewer(StorageDown):
    pass


class StorageConflict(MailroomError):
    status = 409


class ProviderError(MailroomError):
    """`request_id` is the provider's name for the request that this is the answer to, `client_request_id` the one that we gave it."""

    status = 502
    request_id: str | None = None
    client_request_id: str | None = None


class Refused(ProviderError):
    status = 422


class TokenRejected(ProviderError):
    retryable = True
    usual_step = "A new token is tried by itself; if this lasts, run `mailroom check`."


class NotSent(ProviderError):
    retryable = True
    usual_step = "It is tried again by itself."


class Throttled(ProviderError):
    """`vague` is a 503: any server on the way may have said that, whatever became of the mail."""

    usual_step = "It goes on by itself; if this lasts, lower the account's `rate`."
    vague = False


class DeliveryInDoubt(ProviderError):
    usual_step = "Where the provider can be asked this settles by itself; else look into Sent Items, then decide."
