"""The one HTTP client that everything goes by."""

import httpx

from mailroom.http import new_client


async def test_no_cookie_is_kept() -> None:
    """What one answer sets goes with no later request."""
    async with new_client() as client:
        request = client.build_request("GET", "https://graph.example/")
        client.cookies.extract_cookies(httpx.Response(200, headers={"set-cookie": "seen=1"}, request=request))
        assert "cookie" not in client.build_request("GET", "https://graph.example/").headers
