"""The address of the UI: one setting, from which port, links and messages follow."""

import pytest

from sticker_pipeline.core.address import AddressError, address_of, ui_address, ui_port


@pytest.mark.parametrize(
    ("value", "address", "port", "of_4000"),
    [
        (None, "http://127.0.0.1:3000", 3000, "http://127.0.0.1:4000"),
        ("", "http://127.0.0.1:3000", 3000, "http://127.0.0.1:4000"),
        ("http://127.0.0.1:3001/", "http://127.0.0.1:3001", 3001, "http://127.0.0.1:4000"),
        ("http://localhost:3001", "http://localhost:3001", 3001, "http://127.0.0.1:4000"),
        ("http://[::1]:3001", "http://[::1]:3001", 3001, "http://127.0.0.1:4000"),
        ("http://localhost", "http://localhost", 3000, "http://127.0.0.1:4000"),
        # a proxy: its port is not ours, and its address is that of links
        ("https://stickers.example.org", "https://stickers.example.org", 3000, "https://stickers.example.org"),
        ("https://host.example:8443/ui/", "https://host.example:8443/ui", 3000, "https://host.example:8443/ui"),
    ],
)
def test_port_and_links_follow_one_setting(value: str | None, address: str, port: int, of_4000: str) -> None:
    environment = {} if value is None else {"STICKER_UI": value}
    assert ui_address(environment) == address
    assert ui_port(environment) == port
    assert address_of(environment, "127.0.0.1:4000") == of_4000


@pytest.mark.parametrize(
    "value",
    ["3001", "127.0.0.1:3001", "javascript:alert(1)", "file:///etc", "//x", "http://", "http://a:b", "http://a:0",
     "http://a:70000", "http://a b", "http://a\x1b", "http://a/?x=1", "http://[::1"],
)  # fmt: skip
def test_another_text_is_no_address(value: str) -> None:
    for read in (ui_address, ui_port, lambda environment: address_of(environment, "127.0.0.1:1")):
        with pytest.raises(AddressError, match=r"^STICKER_UI is .*, which is no address of a UI: write one such as "):
            read({"STICKER_UI": value})
