import msgspec
import pytest

from kuberml.core.errors import ConfigError, RemoteError
from kuberml.knowledge.signing import Keys
from kuberml.knowledge.withdrawal import SignedWithdrawal, Withdrawal, check_withdrawal, sign_withdrawal

ME, OTHER = Keys(b"m" * 32), Keys(b"o" * 32)
WORD = Withdrawal(ME.public, "digits", "shard", 3)


def test_what_its_author_signed_is_good_on_every_machine() -> None:
    signed = sign_withdrawal(WORD, ME)
    assert check_withdrawal(signed) is signed
    assert WORD.digest == "eaecc30994e402ed5864149345a9f74707dd1c3a2f08d752cf40bf6e282d74b7"
    assert signed.signature.hex()[:32] == "35a82066bfc7c1d18e8764ea5efe7c35"


@pytest.mark.parametrize(
    "changed", [{"version": 4}, {"slot": "other"}, {"task": "letters"}, {"author": OTHER.public}, {"author": "nobody"}]
)
def test_another_word_under_that_signature_is_refused(changed: dict[str, object]) -> None:
    forged = SignedWithdrawal(msgspec.structs.replace(WORD, **changed), sign_withdrawal(WORD, ME).signature)
    with pytest.raises(RemoteError, match="signature"):
        check_withdrawal(forged)


@pytest.mark.parametrize(
    "changed",
    [{"version": -1}, {"version": 2**63}, {"slot": ""}, {"slot": "x" * 257}, {"task": ""}, {"schema": "kuberml.withdrawal/9"}],
)
def test_what_cannot_be_is_neither_signed_nor_accepted(changed: dict[str, object]) -> None:
    wrong = msgspec.structs.replace(WORD, **changed)
    with pytest.raises(ConfigError, match="cannot be"):
        sign_withdrawal(wrong, ME)
    with pytest.raises(RemoteError, match="cannot be"):
        check_withdrawal(SignedWithdrawal(wrong, ME.sign(b"kuberml.withdrawal/1\0", wrong.digest.encode())))


def test_nobody_signs_for_another() -> None:
    with pytest.raises(ConfigError, match="keys are of"):
        sign_withdrawal(WORD, OTHER)
