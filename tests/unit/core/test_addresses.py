"""Where callers may send us."""

from ipaddress import ip_address, ip_network

import pytest

from headrace.contracts.errors import InvalidRequest
from headrace.core.addresses import Rules, Target, check, target

STRICT = Rules()
LOOSE = Rules(allow_http=True, networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")))


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://there.test/a?b=c", Target("https", "there.test", 443, "/a?b=c")),
        ("https://there.test", Target("https", "there.test", 443, "/")),
        ("HTTPS://There.test:8443/#frag", Target("https", "there.test", 8443, "/")),
        ("https://93.184.215.14/", Target("https", "93.184.215.14", 443, "/")),
        ("https://[2606:4700::6810:85e5]/", Target("https", "2606:4700::6810:85e5", 443, "/")),
    ],
)
def test_urls_that_are_called(url: str, found: Target) -> None:
    assert target(url, STRICT) == found


@pytest.mark.parametrize(
    "url",
    [
        "",
        "there.test",
        "ftp://there.test/",
        "http://there.test/",
        "https://",
        "https:///path",
        "https://user@there.test/",
        "https://user:secret@there.test/",
        "https://there.test:99999/",
        "https://there.test/a b",
        "https://there.test/\r\nhost: x",
        "https://thére.test/",
        "https://[::1/",
        "https://[fe80::1%25eth0]/",
        "https://there.test/" + "x" * 2100,
        "https://127.0.0.1/",
        "https://[::ffff:10.0.0.1]/",
    ],
)
def test_urls_that_are_not(url: str) -> None:
    with pytest.raises(InvalidRequest):
        target(url, STRICT)


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "127.8.9.1",
        "10.0.0.1",
        "172.16.5.4",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "240.0.0.1",
        "192.0.2.1",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2001:0:1::1",
        "::7f00:1",
        "2001:db8::1",
    ],
)
def test_addresses_that_are_not_public(text: str) -> None:
    with pytest.raises(InvalidRequest, match="not public"):
        check(ip_address(text), STRICT)


@pytest.mark.parametrize("text", ["93.184.215.14", "2606:4700::6810:85e5", "::ffff:93.184.215.14"])
def test_addresses_that_are(text: str) -> None:
    check(ip_address(text), STRICT)


def test_what_the_installation_allows() -> None:
    for text in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        check(ip_address(text), LOOSE)
    with pytest.raises(InvalidRequest):
        check(ip_address("10.0.0.1"), LOOSE)
    assert target("http://127.0.0.1:5000/x", LOOSE) == Target("http", "127.0.0.1", 5000, "/x")
