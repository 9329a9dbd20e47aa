"""Contents sealed one by one: nobody reads, changes or moves one without the key."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given
from hypothesis import strategies as st

from jobengine.domain.errors import StoreFailed
from jobengine.store.postgresql.sealed import SealedContents, master_key

UID, OTHER = bytes(range(16)), bytes(range(1, 17))
KEY = bytes(range(32))
sealed = SealedContents({1: KEY})


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=5000))
def test_what_is_sealed_opens_again_and_shows_nothing(uid: bytes, content: bytes) -> None:
    stored = sealed.seal(uid, content)
    assert sealed.open(uid, stored) == content
    assert len(stored) == len(content) + 30
    assert len(content) < 8 or content not in stored


def test_no_two_sealings_are_alike() -> None:
    assert len({sealed.seal(UID, b"{}") for _ in range(100)}) == 100


@pytest.mark.parametrize("place", [0, 1, 2, 13, 14, -1])
def test_a_changed_byte_is_noticed(place: int) -> None:
    stored = bytearray(sealed.seal(UID, b'{"a":1}'))
    stored[place] ^= 1
    with pytest.raises(StoreFailed, match="00010203-0405-0607-0809-0a0b0c0d0e0f"):
        sealed.open(UID, bytes(stored))


def test_a_content_moved_to_another_job_is_noticed() -> None:
    with pytest.raises(StoreFailed, match="damaged"):
        sealed.open(OTHER, sealed.seal(UID, b"{}"))


@pytest.mark.parametrize("stored", [b"", b"\x00", b"\x00\x01", b"\x00\x01" + bytes(12)])
def test_what_is_too_short_is_damaged(stored: bytes) -> None:
    with pytest.raises(StoreFailed):
        sealed.open(UID, stored)


def test_the_newest_key_seals_and_each_opens_what_it_sealed() -> None:
    both = SealedContents({1: KEY, 2: bytes(32)})
    assert both.open(UID, sealed.seal(UID, b"old")) == b"old"
    assert both.open(UID, both.seal(UID, b"new")) == b"new"
    with pytest.raises(StoreFailed):
        sealed.open(UID, both.seal(UID, b"new"))


def test_a_key_that_came_since_is_looked_for_and_seals_from_then_on() -> None:
    both = {1: KEY, 2: bytes(32)}
    asked: list[int] = []
    old = SealedContents({1: KEY}, lambda: asked.append(1) or both)  # type: ignore[func-returns-value]
    new = SealedContents(both)
    assert old.open(UID, old.seal(UID, b"known")) == b"known"
    assert asked == []
    assert old.open(UID, new.seal(UID, b"unknown")) == b"unknown"
    assert SealedContents({2: bytes(32)}).open(UID, old.seal(UID, b"newest")) == b"newest"
    assert asked == [1]


def test_a_wrapped_key_opens_under_its_own_id_alone() -> None:
    wrapped = sealed.wrap(2, bytes(32))
    assert sealed.unwrap(2, wrapped) == bytes(32)
    for key_id, key in ((3, KEY), (2, bytes(32))):
        with pytest.raises(StoreFailed):
            SealedContents({1: key}).unwrap(key_id, wrapped)


def test_the_format_is_what_is_documented() -> None:
    stored = sealed.seal(UID, b'{"a":1}')
    key = HKDFExpand(SHA256(), 32, b"jobengine content " + UID).derive(KEY)
    assert stored[:2] == b"\x00\x01"
    assert AESGCM(key).decrypt(stored[2:14], stored[14:], stored[:2] + UID) == b'{"a":1}'


def test_the_canary_tells_the_secret() -> None:
    salt = bytes(16)
    mine = SealedContents({1: master_key(b"secret", salt)})
    assert mine.opens(mine.canary())
    assert not SealedContents({1: master_key(b"Secret", salt)}).opens(mine.canary())
    assert not SealedContents({1: master_key(b"secret", bytes(15) + b"1")}).opens(mine.canary())
