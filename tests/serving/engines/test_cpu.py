"""What is tried follows from what a CPU has: each sort of machine, without having it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kuberml.core.errors import ConfigError
from kuberml.serving.engines.cpu import Cpu, refusal, this_cpu, threads_here
from kuberml.serving.engines.plan import Candidate, Trial, candidates, chosen
from kuberml.serving.engines.timing import Speed

ALL = frozenset({"torch", "onnx", "onnxscript", "onnxruntime", "openvino"})
SORTS = {
    "Haswell, Zen 3": Cpu(frozenset({"avx2"}), ALL, compiler=True),
    "Cascade Lake": Cpu(frozenset({"avx2", "avx512f", "avx512_vnni"}), ALL, compiler=True),
    "Alder Lake": Cpu(frozenset({"avx2", "avx_vnni"}), ALL, compiler=True),
    "Zen 5": Cpu(frozenset({"avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16"}), ALL, compiler=True),
    "Sapphire Rapids": Cpu(
        frozenset({"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8"}), ALL, compiler=True
    ),
}
TRIED = {
    "Haswell, Zen 3": {"fp32"},
    "Cascade Lake": {"fp32", "int8"},
    "Alder Lake": {"fp32", "int8"},
    "Zen 5": {"fp32", "bf16", "int8"},
    "Sapphire Rapids": {"fp32", "bf16", "int8"},
}


def tried(cpu: Cpu, engine: str = "auto", precision: str = "auto") -> set[tuple[str, str]]:
    return {(each.engine, each.precision) for each in candidates(cpu, engine, precision) if not each.refusal}


@pytest.mark.parametrize("sort", list(SORTS))
def test_precisions_follow_from_the_instructions(sort: str) -> None:
    assert {precision for _, precision in tried(SORTS[sort])} == TRIED[sort]


@pytest.mark.parametrize("sort", list(SORTS))
def test_eager_is_always_there_and_first(sort: str) -> None:
    assert candidates(SORTS[sort])[0] == Candidate("eager", "fp32")
    assert tried(Cpu()) == {("eager", "fp32")}


def test_without_vnni_full_range_int8_is_refused_with_the_reason_and_the_reduced_range_only_on_request() -> None:
    old = SORTS["Haswell, Zen 3"]
    assert "saturate" in refusal(old, "onnx", "int8")
    assert "int8-reduced" in refusal(old, "openvino", "int8")
    assert tried(old, precision="int8-reduced") == {("onnx", "int8-reduced"), ("openvino", "int8-reduced")}
    assert not any(precision == "int8-reduced" for sort in SORTS.values() for _, precision in tried(sort))


def test_bf16_is_refused_where_it_would_be_emulated() -> None:
    assert "emulated" in refusal(SORTS["Cascade Lake"], "openvino", "bf16")
    assert refusal(SORTS["Sapphire Rapids"], "openvino", "bf16") == ""


def test_a_missing_package_names_its_extra() -> None:
    bare = Cpu(frozenset({"avx2"}), frozenset({"torch"}), compiler=True)
    assert "kuberml[openvino]" in refusal(bare, "openvino", "fp32")
    assert "kuberml[onnx]" in refusal(bare, "onnx", "fp32")
    assert "kuberml[torch]" in refusal(Cpu(), "torch", "fp32")
    zen = Cpu(SORTS["Zen 5"].flags, frozenset({"torch", "openvino"}))
    assert "calibrate" in refusal(zen, "openvino", "int8")
    assert "kuberml[torchao]" in refusal(SORTS["Zen 5"], "compiled", "int8")


def test_compiling_is_for_machines_with_a_compiler_and_nothing_quicker() -> None:
    torch_only = frozenset({"torch"})
    assert ("compiled", "fp32") in tried(Cpu(frozenset({"avx2"}), torch_only, compiler=True))
    assert ("compiled", "fp32") not in tried(Cpu(frozenset({"avx2"}), torch_only))
    assert ("compiled", "fp32") not in tried(SORTS["Zen 5"])
    assert ("compiled", "bf16") in tried(SORTS["Zen 5"], engine="compiled")


@pytest.mark.parametrize(("engine", "precision"), [("onnx", "bf16"), ("torch", "int8"), ("eager", "int8")])
def test_a_precision_that_a_runtime_lacks_is_said(engine: str, precision: str) -> None:
    with pytest.raises(ConfigError, match="no engine can be taken"):
        chosen([Trial(one, one.refusal) for one in candidates(SORTS["Zen 5"], engine, precision)])


def test_flags_are_read_from_the_kernel(tmp_path: Path) -> None:
    said = tmp_path / "cpuinfo"
    said.write_text("model name : x\nflags\t\t: fpu avx2 avx512_vnni amx_int8\n\nflags\t\t: fpu\n")
    assert this_cpu(said).flags == {"avx2", "avx512_vnni", "amx_int8"}
    assert this_cpu(tmp_path / "nothing").flags == frozenset()


def test_threads_are_those_that_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_here() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "no number")
    assert threads_here() >= 1


def trial(engine: str, one_ms: float, some_ms: float = 10.0, why_not: str = "") -> Trial:
    return Trial(Candidate(engine, "fp32"), why_not, None, Speed(one_ms / 1e3, some_ms / 1e3))


def test_the_fastest_that_is_admitted_is_taken_and_the_line_says_what_was_not() -> None:
    best, why, others = chosen(
        [trial("eager", 4), trial("torch", 3), trial("onnx", 1), trial("openvino", 0.5, why_not="it answers NaN")]
    )
    assert best.candidate.engine == "onnx"
    assert "4.0 x eager alone" in why
    assert others == "not openvino fp32: it answers NaN"
    assert "not " not in why


def test_a_lead_within_the_noise_is_no_reason_to_change() -> None:
    best, why, _ = chosen([trial("eager", 4), trial("onnx", 3.9)])
    assert best.candidate.engine == "eager"
    assert "is the fastest of" in why
