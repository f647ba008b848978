"""How Entra refuses people, and applications that act for them; as `aadsts.py` does it for applications that act for themselves."""

from __future__ import annotations

USER_REFUSALS: dict[int, tuple[int, str, str]] = {  # number: status, `error`, text
    28000: (
        400,
        "invalid_request",
        "Provided value for the input parameter scope is not valid because it contains more than one resource. Scope {scope} is not valid.",
    ),
    50011: (
        400,
        "invalid_request",
        "The redirect URI '{redirect_uri}' specified in the request does not match the redirect URIs configured for the application "
        "'{client_id}'. Make sure the redirect URI sent in the request matches one added to your application in the Azure portal.",
    ),
    50034: (
        400,
        "invalid_grant",
        "The user account {user} does not exist in the {tenant} directory. To sign into this application, "
        "the account must be added to the directory.",
    ),
    50053: (
        400,
        "invalid_grant",
        "The account is locked, you've tried to sign in too many times with an incorrect user ID or password.",
    ),
    50055: (400, "invalid_grant", "The password is expired."),
    50057: (400, "invalid_grant", "The user account is disabled."),
    50074: (400, "interaction_required", "Strong Authentication is required."),
    50076: (
        400,
        "invalid_grant",
        "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor "
        "authentication to access '{resource}'.",
    ),
    50079: (
        400,
        "invalid_grant",
        "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor "
        "authentication to access '{resource}'.",
    ),
    50126: (400, "invalid_grant", "Error validating credentials due to invalid username or password."),
    50173: (
        400,
        "invalid_grant",
        "The provided grant has expired due to it being revoked, a fresh auth token is needed. The user might have changed or reset their "
        "password. The grant was issued on '{issued}' and the TokensValidFrom date (before which tokens are not valid) for this user is "
        "'{valid_from}'.",
    ),
    53003: (
        400,
        "invalid_grant",
        "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance.",
    ),
    54005: (
        400,
        "invalid_grant",
        "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.",
    ),
    65001: (
        400,
        "invalid_grant",
        "The user or administrator has not consented to use the application with ID '{client_id}' named '{name}'. Send an interactive "
        "authorization request for this user and resource.",
    ),
    65004: (400, "access_denied", "User declined to consent to access the app."),
    70000: (400, "invalid_grant", "Provided grant is invalid or malformed."),
    70008: (
        400,
        "invalid_grant",
        "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for "
        "this user and resource.",
    ),
    70015: (400, "slow_down", "OAuth 2.0 device flow error. The device polls too often. Continue polling less often."),
    70017: (400, "authorization_declined", "OAuth 2.0 device flow error. The end user denied the authorization request."),
    70016: (
        400,
        "authorization_pending",
        "OAuth 2.0 device flow error. Authorization is pending. Continue polling.",
    ),
    70018: (400, "bad_verification_code", "Invalid verification code."),
    70020: (
        400,
        "expired_token",
        "The provided value for the input parameter 'device_code' is not valid. This device code has expired.",
    ),
    501481: (400, "invalid_grant", "The Code_Verifier does not match the code_challenge supplied in the authorization request."),
    530035: (
        400,
        "invalid_grant",
        "Access has been blocked by security defaults. This is due to the request being deemed unsafe by security defaults policies.",
    ),
    650053: (
        400,
        "invalid_client",
        "The application '{name}' asked for scope '{permission}' that doesn't exist on the resource '{resource}'. Contact the app vendor.",
    ),
    700025: (
        401,
        "invalid_client",
        "Client is public so neither 'client_assertion' nor 'client_secret' should be presented.",
    ),
    700082: (
        400,
        "invalid_grant",
        "The refresh token has expired due to inactivity. The token was issued on {issued} and was inactive for {inactive}.",
    ),
    9001023: (
        400,
        "invalid_request",
        "The grant type is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific "
        "endpoint.",
    ),
}
