"""Sums over a world, kept as it goes, are the sums over its nodes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from kuberml.worlds.simulated.devices import Device
from kuberml.worlds.simulated.energy import idle_mj
from tests.worlds.simulated import jobs
from tests.worlds.simulated.little import world

NODES = ("a", "b", "c", "d")


@settings(max_examples=20, deadline=None)
@given(
    idle_mw=st.lists(st.integers(0, 2**20), min_size=4, max_size=4),
    waits=st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(NODES), st.integers(0, 10**15)), max_size=8),
)
def test_they_are_what_adding_up_gives_at_any_time(idle_mw: list[int], waits: list[tuple[str, str, int]]) -> None:
    device = Device(name="x", flops_per_s=1000, watts_compute_mw=777, radio="wifi")
    devices = {
        node: Device(**{**{f: getattr(device, f) for f in device.__struct_fields__}, "watts_idle_mw": mw})
        for node, mw in zip(NODES, idle_mw, strict=True)
    }
    here = world(*NODES, devices=devices)
    seen = 0

    def check() -> None:
        nonlocal seen
        seen += 1
        sent = [here.traffic(node) for node in NODES]
        assert here.moved_bytes() == sum(one.sent_control + one.sent_blob for one in sent)
        assert here.all_energy_mj() == sum(here.energy_mj(node) for node in NODES)

    async def answer(_: str, body: bytes) -> bytes:
        return body * 2

    async def main() -> None:
        for node in NODES:
            here.transport(node).serve("double", answer)
        for asker, asked, wait_ns in waits:
            await here.loop.sleep_ns(wait_ns)
            check()
            await here.compute(asker).run(jobs.process)
            if asker != asked:
                await here.transport(asker).ask(asked, "double", b"x" * 1000, timeout_s=60)
            check()
        check()

    here.run({"a": main})
    assert seen == 2 * len(waits) + 1


@given(mw=st.integers(0, 2**31 - 1), seconds=st.integers(0, 10**10), rest_ns=st.integers(0, 10**9 - 1))
def test_whole_seconds_need_no_rounding(mw: int, seconds: int, rest_ns: int) -> None:
    device = Device(name="x", flops_per_s=1, watts_idle_mw=mw)
    assert idle_mj(device, seconds * 10**9 + rest_ns) == seconds * mw + idle_mj(device, rest_ns)
