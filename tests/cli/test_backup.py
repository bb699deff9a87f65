import json

from kuberml.vault.folder import FolderStore
from tests.cli.test_vault import probe, vault

__all__ = ["probe", "vault"]


def test_a_vault_is_saved_and_comes_back(cli, vault, tmp_path):
    status, out, _ = cli("backup", "vault", "saved", "--json")
    assert status == 0
    saved = json.loads(out)
    assert (saved["cards"], saved["left_out"]) == (4, 0)
    status, _, err = cli("restore", "saved", "back")
    assert status == 0
    assert "4 cards" in err
    with FolderStore(tmp_path / "back") as store:
        assert len(list(store.cards())) == 4


def test_a_taken_folder_is_the_user_s_fault(cli, vault):
    assert cli("backup", "vault", "saved")[0] == 0
    status, _, err = cli("backup", "vault", "saved")
    assert status == 2
    assert "saved is there already" in err
    assert cli("restore", "vault", "back")[0] == 2
