"""What a shared key signs, held to the examples in Microsoft's documentation."""

from mailroom.storage.signing import string_to_sign


def test_a_blob_request() -> None:
    """The `Get Container Metadata` example of "Authorize with Shared Key"."""
    headers = {"x-ms-version": "2015-02-21", "x-ms-date": "Fri, 26 Jun 2015 23:39:12 GMT"}
    text = string_to_sign("myaccount", "blob", "GET", "/mycontainer?comp=metadata&restype=container&timeout=20", headers, 0)
    assert text == (
        "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\nx-ms-version:2015-02-21\n"
        "/myaccount/mycontainer\ncomp:metadata\nrestype:container\ntimeout:20"
    )


def test_a_put_with_a_condition() -> None:
    """Length, type and If-None-Match stand in their lines; values of the query are decoded, the path is not."""
    headers = {"x-ms-date": "D", "content-type": "text/plain", "if-none-match": "*", "authorization": "no part of it"}
    text = string_to_sign("a", "blob", "PUT", "/c/x%20y?popreceipt=a%2Bb%3D", headers, 7)
    assert text == "PUT\n\n\n7\n\ntext/plain\n\n\n\n*\n\n\nx-ms-date:D\n/a/c/x%20y\npopreceipt:a+b="


def test_a_table_request() -> None:
    """Tables sign method, type, date and path."""
    headers = {"x-ms-date": "Sun, 11 Oct 2009 19:52:39 GMT", "x-ms-version": "v", "content-type": "application/json"}
    text = string_to_sign("testaccount1", "table", "PUT", "/Tables?$top=1", headers, 9)
    assert text == "PUT\n\napplication/json\nSun, 11 Oct 2009 19:52:39 GMT\n/testaccount1/Tables"
