"""Scratch modules: one torch module a shape and process, its weights one flat vector that is swapped in and out.

A state is float32 [P]: the parameters in the module's order, each in its own C order, then the persistent buffers (running
statistics) likewise; integer buffers are stored as float32. Parameters are *views* into the scratch module's flat buffer, so
a thousand learners need one module, a swap is one copy, and a state can be averaged, digested and sent as it is.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from kuberml.core import values
from kuberml.core.errors import ConfigError
from kuberml.learning.models import build
from kuberml.learning.types import Array

if TYPE_CHECKING:
    from kuberml.learning.torch_learner import TorchLearner

FEW_CHANNELS = 16

_TORCH = threading.RLock()  # torch's generator, its thread count and the scratch modules belong to the process


@contextlib.contextmanager
def one_job(seed: int, device: str = "cpu") -> Iterator[None]:
    """One thread, torch's generators seeded (for initialisation and dropout), and both put back at the end.

    Only one job at a time runs in a process; other threads wait here.
    """
    with _TORCH, contextlib.ExitStack() as stack:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        stack.callback(torch.set_num_threads, threads)
        stack.enter_context(torch.random.fork_rng([torch.device(device)] if device != "cpu" else [], device_type="cuda"))
        torch.default_generator.manual_seed(seed)
        if device != "cpu":
            torch.cuda.manual_seed(seed)
            stack.enter_context(torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False))
        yield


class Scratch:
    """A module whose parameters are views into one flat buffer on its device.

    Attributes:
        module: call it with float32 [N, channels, H, W] or [N, features].
        layout: (name, shape) of each part of the state, in order.
        trainable: the parameters that have gradients.
        head: those of the last layer.
        device: where it is.
        flops_per_sample: of a forward pass: 2 for each multiply-add of convolutions and matrix products, nothing else.

    Raises:
        ConfigError: a parameter of the module is not float32.
    """

    def __init__(self, module: nn.Module, device: str) -> None:
        self.module, self.device = module.to(device), device
        parameters = dict(module.named_parameters())
        parts = parameters | _buffers(module)
        self.layout = tuple((name, tuple(part.shape)) for name, part in parts.items())
        self._flat = torch.empty(sum(part.numel() for part in parts.values()), device=device)
        self._host: Array = self._flat.numpy() if device == "cpu" else np.empty(len(self._flat), np.float32)
        self._copied: list[tuple[Tensor, Tensor]] = []  # buffers that are not float32, and their place in the flat buffer
        start = 0
        for name, part in parts.items():
            place = self._flat[start : start + part.numel()].view(part.shape)
            start += part.numel()
            place.copy_(part.detach())
            if part.dtype == torch.float32:
                part.data = place
            elif name in parameters:
                raise ConfigError(f"parameter {name!r} is {part.dtype}: models are float32 (bf16 is an option of the plan)")
            else:
                self._copied.append((part, place))
        trainable = {name: part for name, part in parameters.items() if part.requires_grad}
        self.trainable = list(trainable.values())
        last = next(reversed(trainable), "").rpartition(".")[0]
        self.head = [part for name, part in trainable.items() if name.rpartition(".")[0] == last]
        self.flops_per_sample = 0
        for layer in module.modules():
            if _overruns(layer):
                layer.register_forward_pre_hook(_channels_first)

    @property
    def size(self) -> int:
        """P, the length of a state."""
        return len(self._host)

    def load(self, state: Array) -> None:
        """Put a state into the module.

        Raises:
            ConfigError: it is not float32 [P] of this module.
        """
        if not isinstance(state, np.ndarray) or state.dtype != np.float32 or state.shape != self._host.shape:
            found = f"{state.dtype} {list(state.shape)}" if isinstance(state, np.ndarray) else type(state).__name__
            raise ConfigError(f"a state of this model is float32 [{self.size}], not {found}")
        self._host[:] = state
        if self.device != "cpu":
            self._flat.copy_(torch.from_numpy(self._host))
        for buffer, place in self._copied:
            buffer.copy_(place.round() if not buffer.is_floating_point() else place)

    def store(self) -> Array:
        """A copy of the module's state, float32 [P]."""
        for buffer, place in self._copied:
            place.copy_(buffer)
        return np.array(self._flat.cpu().numpy())

    def inputs(self, x_N: Array) -> Tensor:
        """Samples [N, ...] as the module's input. Images become [N, channels, H, W] in channels-last memory, without a copy."""
        x = torch.from_numpy(x_N if x_N.flags.writeable else x_N.copy()).to(self._flat.device)
        return x.permute(0, 3, 1, 2) if x.ndim == 4 else x


def scratch_of(learner: TorchLearner) -> Scratch:
    """This process's scratch module for a learner's architecture. Load, use and store it within one `one_job`.

    Raises:
        ConfigError: unknown architecture or device, or a module that does not answer logits [N, C].
    """
    options = values.dumps(learner.options)
    return _cached(learner.architecture, tuple(learner.shape), len(learner.labels), options, learner.device)


def fresh(learner: TorchLearner) -> Scratch:
    """A new scratch module with weights of its own initialisation from torch's current generator; not kept."""
    module = build(learner.architecture, tuple(learner.shape), len(learner.labels), learner.options)
    return Scratch(module, "cpu")


@functools.lru_cache(maxsize=32)
def _cached(architecture: str, shape: tuple[int, ...], classes: int, options: bytes, device: str) -> Scratch:
    if device != "cpu":
        _check_device(device)
    with one_job(0), torch.no_grad():
        scratch = Scratch(build(architecture, shape, classes, values.loads(options)), device)
        scratch.module.eval()
        x = scratch.inputs(np.zeros((1, *shape), np.float32))
        scratch.flops_per_sample, out = counted(scratch.module, x)
    if not isinstance(out, Tensor) or out.shape != (1, classes):
        answer = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
        raise ConfigError(f"model {architecture!r} must answer logits [N, {classes}]; for one sample it answers {answer}")
    return scratch


def _check_device(device: str) -> None:
    try:
        usable = torch.device(device).type == "cuda" and torch.cuda.is_available()
    except RuntimeError:
        usable = False
    if not usable:
        raise ConfigError(f"device {device!r} is not here: use 'cpu', or 'cuda' on a machine with an NVIDIA GPU")


def _overruns(layer: nn.Module) -> bool:
    """Whether oneDNN would write past its memory: in the gradient of a strided 1x1 convolution of few channels-last channels.

    Seen with torch 2.13 on a CPU with AVX2 and no AVX-512, for 4 input channels and stride 2: the heap was corrupted.
    """
    if not isinstance(layer, nn.Conv2d) or layer.in_channels // layer.groups >= FEW_CHANNELS:
        return False
    return set(layer.kernel_size) == {1} and max(layer.stride) > 1


def _channels_first(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].contiguous(), *inputs[1:])


def _buffers(module: nn.Module) -> dict[str, Tensor]:
    persistent = module.state_dict().keys()
    return {name: buffer for name, buffer in module.named_buffers() if name in persistent}


def counted(module: nn.Module, x: Tensor) -> tuple[int, Any]:
    """Flops of one call and its answer. Hooks for plain layers; torch's own counter, slow to import, for the rest."""
    layers = [layer for layer in module.modules() if not list(layer.children())]
    plain = all(type(layer).__module__.startswith(("torch.nn.modules.", "kuberml.")) for layer in module.modules())
    counted = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    free = (nn.GroupNorm, nn.LayerNorm, nn.BatchNorm1d, nn.BatchNorm2d)
    if not plain or any(list(layer.parameters()) and not isinstance(layer, (*counted, *free)) for layer in layers):
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            out = module(x)
        return int(counter.get_total_flops()), out
    total = 0

    def add(layer: nn.Module, _: Any, out: Tensor) -> None:
        nonlocal total
        weight = layer.get_parameter("weight")
        total += 2 * out.numel() * (weight.numel() // weight.shape[0])

    hooks = [layer.register_forward_hook(add) for layer in layers if isinstance(layer, counted)]
    try:
        out = module(x)
    finally:
        for hook in hooks:
            hook.remove()
    return total, out
