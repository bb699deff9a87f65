"""Files of a user's own beside a scenario: what they held when a run began."""

from __future__ import annotations

import sys
from pathlib import Path

from kuberml.core.ids import Digest, digest_of
from kuberml.paradigms import PARADIGMS
from kuberml.scenario.config import Config
from kuberml.scenario.options import check_options, paradigm_of


def file_digests(config: Config) -> dict[str, Digest]:
    """The digest of every paradigm's own file by its name, and of what these import from beside them.

    Raises:
        ConfigError: a file is not there or cannot be imported, or an option is wrong.
    """
    uses = {paradigm.use for paradigm in config.paradigms.values() if paradigm.use.endswith(".py")}
    if not uses:
        return {}
    check_options(config, PARADIGMS)
    files = {Path(str(paradigm_of(use, PARADIGMS).__file__)).resolve() for use in uses}
    folders = {file.parent for file in files}
    loaded = (Path(getattr(module, "__file__", None) or "") for module in list(sys.modules.values()))
    files |= {path for path in loaded if path.is_absolute() and path.suffix == ".py" and path.parent in folders}
    return {file.name: digest_of(file.read_bytes()) for file in sorted(files)}
