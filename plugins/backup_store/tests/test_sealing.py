"""Encryption at rest: what is stored shows nothing, what was changed is noticed, and keys may change."""

from __future__ import annotations

import io
import secrets
from pathlib import Path

import litefs_backup_store as plugin
import pytest
from litefs_backup_store.client import VaultClient
from litefs_backup_store.folder import FolderObjects
from litefs_backup_store.keys import KEY_VARIABLE, Key, find_keys, parse_keys
from litefs_backup_store.levels import Level, Levels
from litefs_backup_store.maintenance import Maintenance
from litefs_backup_store.objects import Damaged
from litefs_backup_store.opening import open_objects
from litefs_backup_store.sealed import SealedObjects
from litefs_backup_store.sealing import CHUNK, HEADER, TAG, WrongKey, is_sealed, seal, unseal
from litefs_backup_store.vault import Vault

from litefs import ltx
from litefs.errors import ConfigError
from litefs.ltx import Pos
from litefs.testing import BackupConformance, History, backup_config

OLD, NEW = Key(bytes(range(32))), Key(bytes(range(32, 64)))


class TestConformance(BackupConformance):
    fences = True
    long_history = 20

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    async def client(self) -> VaultClient:
        return VaultClient(Vault(SealedObjects(FolderObjects(self.folder), [NEW])))


def sealed(data: bytes, name: str = "name", key: Key = NEW) -> bytes:
    output = io.BytesIO()
    seal(io.BytesIO(data), output, name, key)
    return output.getvalue()


def opened(data: bytes, name: str = "name", *keys: Key) -> bytes:
    output = io.BytesIO()
    unseal(io.BytesIO(data), output, name, keys or [NEW])
    return output.getvalue()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK])
def test_there_and_back(size: int) -> None:
    data = secrets.token_bytes(size)
    found = sealed(data)
    assert is_sealed(found)
    assert opened(found) == data
    assert opened(found, "name", OLD, NEW) == data
    assert len(found) == HEADER + size + TAG * max(1, -(-size // CHUNK))
    assert sealed(data) != found


def test_every_change_is_noticed() -> None:
    found = sealed(b"\0" * (2 * CHUNK + 100))
    first, second = HEADER + CHUNK + TAG, HEADER + 2 * (CHUNK + TAG)
    changed = bytearray(found)
    changed[first + 5] ^= 1
    salted = bytearray(found)
    salted[HEADER - 1] ^= 1
    swapped = found[:HEADER] + found[first:second] + found[HEADER:first] + found[second:]
    for bad in (bytes(changed), bytes(salted), swapped, found[:-1], found[:second], found[:first], found[:HEADER],
                found + b"x", found[: HEADER - 1]):  # fmt: skip
        with pytest.raises(Damaged):
            opened(bad)
    with pytest.raises(Damaged):
        opened(found, "another name")


def test_a_missing_key_is_said() -> None:
    with pytest.raises(WrongKey, match=f"encrypted with key {NEW.id.hex()}, and no key is configured"):
        unseal(io.BytesIO(sealed(b"x")), io.BytesIO(), "name", [])
    with pytest.raises(WrongKey, match=f"configured is: {OLD.id.hex()}") as caught:
        opened(sealed(b"x"), "name", OLD)
    assert "former key" in caught.value.hint
    for key in (OLD, NEW):
        assert key.secret.hex() not in f"{caught.value} {caught.value.hint} {key!r}"


def test_where_keys_come_from(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"{NEW.secret.hex()}\n{OLD.secret.hex().upper()}\n")
    assert find_keys({"encryption-key-file": str(file)}, {}) == (NEW, OLD)
    assert find_keys({"encryption-key": NEW.secret.hex()}, {KEY_VARIABLE: "bad"}) == (NEW,)
    assert find_keys({}, {KEY_VARIABLE: f"{NEW.secret.hex()}, {OLD.secret.hex()}"}) == (NEW, OLD)
    assert find_keys({}, {}) == ()
    assert parse_keys("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "") == (OLD,)
    with pytest.raises(ConfigError, match="either"):
        find_keys({"encryption-key": "x", "encryption-key-file": "x"}, {})
    for bad in ("secret-words!", "c2hvcnQ=", f"{NEW.secret.hex()} {OLD.secret.hex()[:-1]}"):
        with pytest.raises(ConfigError, match=r"key \d") as caught:
            parse_keys(bad, "backup.folder.encryption-key")
        assert bad.split()[-1] not in str(caught.value)


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def made(**section: str) -> None:
        config = backup_config(plugin, {"type": "folder", "path": str(tmp_path / "vault"), "folder": section})
        assert str(config).count(NEW.secret.hex()) == 0
        vault = Vault(open_objects(config))
        vault.claim()

    made()
    made(**{"encryption-key": NEW.secret.hex()})
    with pytest.raises(WrongKey):
        made()
    monkeypatch.setenv(KEY_VARIABLE, NEW.secret.hex())
    made()
    with pytest.raises(ConfigError):
        made(**{"encryption-key": "nonsense"})


class Backup:
    """A vault in one folder, as nodes with other keys see it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.history = History()
        (folder / "vault").mkdir()

    def vault(self, *keys: Key) -> Vault:
        found = Vault(SealedObjects(FolderObjects(self.folder / "vault"), keys))
        found.claim()
        return found

    def commit(self, vault: Vault) -> None:
        path = self.folder / "file.ltx"
        path.write_bytes(self.history.commit({1: b"TOP SECRET %d" % self.history.pos.txid, 2: b"other"}))
        with open(path, "rb") as file:
            vault.append("app.db", path, *ltx.verify(file))

    def stored(self) -> dict[str, bytes]:
        top = self.folder / "vault"
        return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.name != ".lock"
                and path.is_file()}  # fmt: skip

    def check(self, vault: Vault) -> None:
        output = io.BytesIO()
        header, trailer = vault.restore("app.db", output)
        assert Pos(header.max_txid, trailer.post_apply) == self.history.pos


@pytest.fixture
def backup(tmp_path: Path) -> Backup:
    return Backup(tmp_path)


def test_what_is_stored_shows_nothing(backup: Backup) -> None:
    vault = backup.vault(NEW)
    backup.commit(vault)
    backup.commit(vault)
    Maintenance(vault, now=2**33).run("app.db")
    backup.check(vault)
    found = backup.stored()
    assert len(found) >= 3
    assert all(is_sealed(data) for data in found.values()), list(found)


def test_a_wrong_key_changes_nothing(backup: Backup) -> None:
    backup.commit(backup.vault(OLD))
    before = backup.stored()
    for keys in ((), (NEW,)):
        with pytest.raises(WrongKey):
            backup.vault(*keys)
        with pytest.raises(WrongKey):
            Vault(SealedObjects(FolderObjects(backup.folder / "vault"), keys)).positions()
    assert backup.stored() == before


def test_encryption_begins_and_keys_change(backup: Backup) -> None:
    """What was written before stays readable, and merging brings it under the newest key."""
    everything = Levels((Level(1, 10, 0), Level(2, 60, 0), Level(3, 600, 10**9)), 10**9, 10**9)
    for keys in ((), (OLD,), (NEW, OLD)):
        vault = backup.vault(*keys)
        for _ in range(3):
            backup.commit(vault)
        backup.check(vault)
    Maintenance(vault, everything, now=backup.history.timestamp / 1000 + 10**5).run("app.db")
    backup.check(backup.vault(NEW, OLD))
    merged = [data for name, data in backup.stored().items() if "/3/" in name]
    assert merged
    assert all(NEW.id in data[:HEADER] for data in merged)


def test_damage_in_an_encrypted_file(backup: Backup) -> None:
    vault = backup.vault(NEW)
    backup.commit(vault)
    name = next(name for name in backup.stored() if name.endswith(".ltx"))
    path = backup.folder / "vault" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Damaged, match="not what was stored"):
        backup.check(vault)
    assert not list(backup.folder.glob("*.sealed"))
