"""A Ray that is started here is nobody else's: its token, and what is refused."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from engine.local_ray import is_loopback, private_token
from engine.serve.cluster import ray_cluster
from features.domain import SegueError


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Ray looks for it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / ".ray" / "auth_token"


def test_a_token_is_made_once_and_read_by_its_owner_alone(token: Path) -> None:
    private_token()
    made = token.read_text()
    assert len(bytes.fromhex(made)) == 32
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    token.chmod(0o644)  # as Ray writes it
    private_token()
    assert (token.read_text(), stat.S_IMODE(token.stat().st_mode)) == (made, 0o600)


@pytest.mark.parametrize(("name", "value"), [("RAY_AUTH_MODE", "disabled"), ("RAY_AUTH_TOKEN", "given"), ("RAY_AUTH_TOKEN_PATH", "/given")])
def test_none_is_made_where_none_is_needed(token: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    private_token()
    assert not token.exists()


def test_which_addresses_are_of_this_machine_alone() -> None:
    assert all(is_loopback(address) for address in ("127.0.0.1:6379", "localhost:1", "[::1]:6379"))
    assert not any(is_loopback(address) for address in ("10.0.0.5:6379", "head:6379", "auto", "0.0.0.0:1"))


def test_a_ray_that_others_reach_is_not_used_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    for name, value in (("RAY_ADDRESS", "10.0.0.5:6379"), ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "1")):
        with monkeypatch.context() as changed:
            changed.setenv(name, value)
            with pytest.raises(SegueError, match=r"RAY_AUTH_MODE: expected a token .*found disabled"), ray_cluster():
                pass
