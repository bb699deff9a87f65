from kuberml.worlds.simulated.trace import Trace


def filled(content: bytes = b"float bytes", size_bytes: int = 7) -> Trace:
    trace = Trace()
    trace.commit("ask", "a", 5, (size_bytes, 0), content)
    trace.commit("job", "b", 2**62, (), "digest")
    return trace


def test_the_hashes_are_these() -> None:
    assert filled().trace_hash() == "19f5e1a631a43d956b95874965140fbdc7ce6489ef4c1212d18f6b1b83fe1dc1"
    assert filled().integer_hash() == "073feae96301e19a287f4ee6a37f4fc56add4206d02b6bb0ae00a0c4350bde20"


def test_content_shows_in_the_trace_hash_only() -> None:
    assert filled().trace_hash() != filled(b"other bytes").trace_hash()
    assert filled().integer_hash() == filled(b"other bytes").integer_hash()


def test_integers_and_order_show_in_both() -> None:
    assert filled().trace_hash() != filled(size_bytes=8).trace_hash()
    assert filled().integer_hash() != filled(size_bytes=8).integer_hash()
    turned = Trace()
    turned.commit("job", "b", 2**62, (), "digest")
    turned.commit("ask", "a", 5, (7, 0), b"float bytes")
    assert filled().integer_hash() != turned.integer_hash()


def test_reading_a_hash_changes_nothing_and_a_long_trace_is_like_a_short_one() -> None:
    read, unread = Trace(), Trace()
    for number in range(20_000):
        read.commit("x", "n", number, (number,), b"content")
        unread.commit("x", "n", number, (number,), b"content")
        if number % 1000 == 0:
            read.trace_hash()
    assert read.trace_hash() == unread.trace_hash()
    assert read.integer_hash() == unread.integer_hash()
    assert read.events == 20_000
