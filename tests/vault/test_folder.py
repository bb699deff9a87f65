from pathlib import Path

from kuberml.vault.folder import FolderStore
from tests.contracts.store import StoreContract


class TestFolderStore(StoreContract):
    def make(self, tmp_path: Path) -> FolderStore:
        return FolderStore(tmp_path / "vault")
