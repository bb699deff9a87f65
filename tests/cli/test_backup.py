import json
from pathlib import Path

import pytest

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


@pytest.mark.skipif(not Path("/sys/kernel").is_dir(), reason="no place here where even root makes no folder")
def test_a_place_where_one_may_not_write_is_said_in_one_line(cli, vault):
    for arguments in (("backup", "vault", "/sys/kernel/saved"), ("restore", "saved", "/sys/kernel/back")):
        cli("backup", "vault", "saved")
        status, _, err = cli(*arguments)
        assert (status, err.count("\n")) == (2, 1), err
        assert "not allowed" in err
        assert "/sys/kernel" in err
