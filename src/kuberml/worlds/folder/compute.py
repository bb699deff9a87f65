"""The seam's Compute where there is nothing to model: the job runs now, here, on one thread."""

from __future__ import annotations

from typing import Any

from kuberml.core.jobs import JobFunction, check_job
from kuberml.core.values import frozen
from kuberml.worlds.simulated.threads import OneThread


class HereCompute:
    """`core.seam.Compute` of this process. A job holds up everything else in its event loop while it runs."""

    async def run(self, function: JobFunction, *values: Any) -> Any:
        """See the seam. Inputs and result pass through `core.values`, as in a world where they travel."""
        job = check_job(function)
        inputs = frozen(list(values))
        one = OneThread()
        one.hold()
        try:
            return frozen(job(*inputs))
        finally:
            one.release()  # outside of jobs the threads belong to the user's own training
