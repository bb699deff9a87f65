"""Who plays where: what a scenario's places make of its devices."""

from __future__ import annotations

import pytest

from kuberml.scenario.config import parse
from kuberml.scenario.stage import set_stage
from tests.scenario.small import SMALL, prepared, run_to_end


@pytest.mark.parametrize(
    ("devices", "links", "radio"),
    [("phones", "lte", "lte"), ("phones", "lan", "wired"), ("gateway", "flash-wifi", "wifi"), ("charging-phones", "5g", "5g")],
)
def test_air_time_costs_what_the_link_s_radio_takes(devices: str, links: str, radio: str) -> None:
    places = {"devices": devices, "links": links, "server_link": "lan"}
    stage = set_stage(parse({**SMALL, "places": places, "paradigms": {"local": {}}}), 0, common=True)
    assert {actor.device.radio for actor in stage.learners} == {radio}
    assert {actor.device.radio for actor in stage.services.values()} == {"wired"}


def test_a_phone_on_a_mobile_network_spends_more_than_one_on_a_wire() -> None:
    def energy_j(links: str) -> float:
        places = {"devices": "charging-phones", "links": links}
        return run_to_end(prepared({**SMALL, "places": places, "paradigms": {"fedavg": {"rounds": 1}}})).energy_j

    assert energy_j("3g") > energy_j("lan") + 6 * 349, "each of six began a session of 350 J"
