"""One thread a process: jobs of several processes must not fight for cores, and sums must not depend on their number."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any

_WITH_THREADS = ("torch", "sklearn", "scipy.linalg")


class OneThread:
    """Holds BLAS, OpenMP and torch of this process to one thread, also those that are imported later."""

    def __init__(self) -> None:
        self._held: frozenset[str] | None = None
        self._undo = contextlib.ExitStack()

    def hold(self) -> None:
        """Hold what is loaded by now. Cheap when nothing new is."""
        loaded = frozenset(name for name in _WITH_THREADS if name in sys.modules)
        if loaded != self._held:
            self._held = loaded
            self._undo.enter_context(_blas_on_one_thread())
            if "torch" in loaded:
                # by import, which waits for a thread that is still at it: until then the module has no attributes
                self._undo.enter_context(_torch_on_one_thread(importlib.import_module("torch")))

    def release(self) -> None:
        """Give back what was held."""
        self._held = None
        self._undo.close()


@contextlib.contextmanager
def _blas_on_one_thread() -> Iterator[None]:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # comes with scikit-learn; without it the environment decides
        yield
    else:
        with threadpool_limits(1):
            yield


@contextlib.contextmanager
def _torch_on_one_thread(torch: Any) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
