"""The seam's Store over a shared vault folder: blobs and cards are everybody's, memory is one member's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kuberml.core.ids import NodeId
from kuberml.vault.folder import FolderStore


class MemberStore(FolderStore):
    """A `FolderStore` whose memory keys stand under the member's name (which has no slash, see `core.ids.check_node`)."""

    def __init__(self, path: Path | str, node: NodeId) -> None:
        """Open the vault at `path` for a member. Raises ConfigError: as `FolderStore`."""
        super().__init__(path)
        self._prefix = f"{node}/"

    def memory(self) -> dict[str, bytes]:
        """This member's entries, sorted by key."""
        every = super().memory().items()
        return {key.removeprefix(self._prefix): entry for key, entry in every if key.startswith(self._prefix)}

    def remember(self, entries: Mapping[str, bytes | None]) -> None:
        """See `FolderStore.remember`."""
        super().remember({self._prefix + key: entry for key, entry in entries.items()})
