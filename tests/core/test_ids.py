from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.core.errors import RemoteError
from kuberml.core.ids import check_digest, check_node, digest_of


def test_the_digest_is_blake3_as_its_authors_publish_it() -> None:
    """Test vectors of the BLAKE3 reference implementation: the empty input and bytes 0, 1, 2."""
    assert digest_of(b"") == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert digest_of(bytes([0, 1, 2])) == "e1be4d7a8ab5560aa4199eea339849ba8e293d55ca0a81006726d184519e647f"


@given(st.binary(max_size=64))
@settings(max_examples=30, derandomize=True)
def test_all_views_of_the_same_bytes_have_one_digest(content: bytes) -> None:
    assert digest_of(content) == digest_of(bytearray(content)) == digest_of(memoryview(content))
    assert check_digest(digest_of(content)) == digest_of(content)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "a" * 63,
        "a" * 65,
        "A" * 64,
        "g" * 64,
        "a" * 64 + "\n",
        "\u0661" * 64,
        "../" + "a" * 61,
        b"a" * 64,
        None,
        7,
        ["a" * 64],
    ],
)
def test_what_is_not_a_digest_is_the_peers_fault(wrong: object) -> None:
    with pytest.raises(RemoteError, match="not a digest"):
        check_digest(wrong)


@pytest.mark.parametrize("right", ["n", "0", "n-3", "client_07", "hospital.long-beach", "A" * 64])
def test_node_ids(right: str) -> None:
    assert check_node(right) == right


@pytest.mark.parametrize(
    "wrong", ["", ".", "..", ".n", "-n", "_n", "a" * 65, "a/b", "a\\b", "a b", "é", "n\n", "n\0", b"n", None, 3]
)
def test_what_is_not_a_node_id_is_the_peers_fault(wrong: object) -> None:
    with pytest.raises(RemoteError, match="not a node id"):
        check_node(wrong)


@given(st.text(max_size=80))
@settings(max_examples=100, derandomize=True)
def test_a_node_id_is_safe_as_one_part_of_a_path(text: str) -> None:
    try:
        node = check_node(text)
    except RemoteError:
        return
    assert node.isascii()
    assert not set(node) & set('/\\\0:*?"<>|')
    assert node not in {".", ".."}


def test_an_error_about_a_long_wrong_name_stays_short() -> None:
    with pytest.raises(RemoteError) as caught:
        check_digest("x" * 100_000)
    assert len(str(caught.value)) < 200
