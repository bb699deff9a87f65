import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from kuberml.core.errors import ConfigError
from kuberml.core.ids import NodeId
from kuberml.ledger.ledger import Ledger
from kuberml.ledger.prov import PREFIXES, ROLES, document, export
from tests.ledger.worlds import CARD_A, CARD_B, CARD_X, KEY_A, MODEL_B1, MODEL_C, small_world

SECTION = {"prov:entity": "entity", "prov:activity": "activity", "prov:agent": "agent"}
SECTION |= {"prov:generatedEntity": "entity", "prov:usedEntity": "entity"}


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    small_world(ledger)
    return ledger


def check_structure(found: dict[str, Any]) -> None:
    """The rules of PROV-JSON: known sections, both ends of a relation declared in the right section, known prefixes, times."""
    assert set(found) <= {"prefix", "entity", "activity", "agent", *ROLES}
    for section in ("entity", "activity", "agent"):
        for name in found[section]:
            prefix, _, local = name.partition(":")
            assert prefix in PREFIXES
            assert local
            assert all(character.isalnum() or character in "-._~%" for character in local)
    for relation, roles in ROLES.items():
        for name, ends in found.get(relation, {}).items():
            assert name.startswith("_:")
            assert set(ends) == set(roles)
            assert all(ends[role] in found[SECTION[role]] for role in roles)
    for activity in found["activity"].values():
        assert datetime.fromisoformat(activity["prov:startTime"]) <= datetime.fromisoformat(activity["prov:endTime"])


def test_the_whole_ledger_is_valid_and_complete(ledger: Ledger) -> None:
    found = document(ledger)
    check_structure(found)
    assert len(found["activity"]) == 15
    assert set(found["agent"]) == {"node:a", "node:b", "node:c", "node:d", f"author:{KEY_A}"}
    derived = {(e["prov:generatedEntity"], e["prov:usedEntity"]) for e in found["wasDerivedFrom"].values()}
    assert (f"entity:{MODEL_C}", f"entity:{CARD_B}") in derived
    associated = {(e["prov:activity"], e["prov:agent"]) for e in found["wasAssociatedWith"].values()}
    assert {("event:fetched-4", "node:b"), ("event:fetched-4", "node:a")} <= associated
    job = found["activity"]["event:job-14"]
    assert (job["prov:startTime"], job["prov:endTime"]) == (
        "1970-01-01T00:00:00.000005+00:00",
        "1970-01-01T00:00:00.000009+00:00",
    )
    assert (job["kuberml:flops"], job["kuberml:function"]) == (7, "m:f")
    assert len(found["wasInvalidatedBy"]) == 1


def test_a_lineage_is_what_stands_behind_one_thing(ledger: Ledger) -> None:
    found = document(ledger, about=MODEL_B1)
    check_structure(found)
    assert f"entity:{CARD_A}" in found["entity"]
    assert not {f"entity:{other}" for other in (CARD_B, CARD_X, MODEL_C)} & set(found["entity"])
    assert {"node:a", "node:b", f"author:{KEY_A}"} <= set(found["agent"])
    assert {"event:published-1", "event:absorbed-6"} <= set(found["activity"])
    assert "event:job-14" not in found["activity"]


def test_what_the_ledger_does_not_know_has_no_lineage(ledger: Ledger) -> None:
    with pytest.raises(ConfigError, match="no entity"):
        document(ledger, about="f" * 64)


def test_odd_names_are_encoded_and_odd_times_replaced() -> None:
    ledger = Ledger()
    recorder = ledger.recorder(NodeId("n"), lambda: 1)
    recorder.record("an odd event: (1)", **{"a field": [1, {"x": None}]})
    recorder.record("fetched", card="a card, no digest", holder="n", started_ns="noon", ended_ns=10**40)
    found = document(ledger)
    check_structure(found)
    assert "event:an%20odd%20event%3A%20%281%29-1" in found["activity"]
    assert "entity:a%20card%2C%20no%20digest" in found["entity"]


def test_the_file_is_the_document(ledger: Ledger, tmp_path: Path) -> None:
    export(ledger, tmp_path / "prov.json", about=MODEL_C)
    assert json.loads((tmp_path / "prov.json").read_text()) == json.loads(json.dumps(document(ledger, about=MODEL_C)))


def test_the_prov_package_reads_it(ledger: Ledger) -> None:
    prov = pytest.importorskip("prov.model")
    read = prov.ProvDocument.deserialize(content=json.dumps(document(ledger)), format="json")
    found = document(ledger)
    assert len(list(read.get_records(prov.ProvEntity))) == len(found["entity"])
    assert len(list(read.get_records(prov.ProvActivity))) == len(found["activity"])
    assert len(list(read.get_records(prov.ProvDerivation))) == len(found["wasDerivedFrom"])
