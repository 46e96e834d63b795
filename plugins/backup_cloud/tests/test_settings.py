"""Which server and which token apply."""

from __future__ import annotations

import litefs_backup_cloud as plugin
import pytest
from litefs_backup_cloud.settings import CloudSettings, cloud_settings

from litefs.config import loads
from litefs.errors import ConfigError
from litefs.testing import backup_config, node_info

ENVIRONMENT = {"LITEFS_CLOUD_TOKEN": " from-env\n", "LITEFS_CLOUD_ENDPOINT": "http://env:1/path"}


def settings(environment: dict[str, str] | None = None, **backup: str) -> CloudSettings:
    given = {"type": "litefs-cloud", **{key.replace("_", "-"): value for key, value in backup.items()}}
    return cloud_settings(backup_config(plugin, given), environment or {})


def test_from_the_configuration() -> None:
    found = settings(url="https://one:8/x", auth_token="t", cluster="c")
    assert (found.url, found.token, found.cluster) == ("https://one:8", "t", "c")


def test_the_environment_names_the_server_and_the_configuration_the_token() -> None:
    found = settings(ENVIRONMENT, url="http://one", auth_token="configured")
    assert (found.url, found.token) == ("http://env:1", "configured")
    assert settings(ENVIRONMENT).token == "from-env"


def test_the_endpoint_counts_only_with_a_token() -> None:
    found = settings({"LITEFS_CLOUD_ENDPOINT": "http://env:1"}, url="http://one")
    assert found.url == "http://one"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("", "was shut down"),
        ("https://litefs.fly.io", "was shut down"),
        ("ftp://host", "scheme: 'ftp'"),
        ("http://", "host required"),
        ("http://[", "invalid litefs cloud URL"),
    ],
)
def test_bad_servers(url: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        settings(url=url)


def test_a_token_that_no_header_can_carry_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        settings(url="http://one", auth_token="se\x07cret")
    assert "cret" not in str(caught.value)


def loaded_type(**environment: str) -> tuple[str, tuple[str, ...]]:
    config = loads("lease: {type: static}", environment=environment)
    return config.backup.type, config.warnings


def test_the_environment_turns_it_on() -> None:
    assert loaded_type(LITEFS_CLOUD_TOKEN="t", LITEFS_CLOUD_ENDPOINT="http://one") == ("litefs-cloud", ())
    assert loaded_type(LITEFS_CLOUD_TOKEN=" ", LITEFS_CLOUD_ENDPOINT="http://one")[0] == ""


def test_a_token_without_a_server_is_a_warning() -> None:
    """LiteFS's own server is gone; a node that was set up for it must not wait for it."""
    kind, (warning,) = loaded_type(LITEFS_CLOUD_TOKEN="t")
    assert kind == ""
    assert "LITEFS_CLOUD_ENDPOINT" in warning


def test_a_directory_needs_a_path() -> None:
    with pytest.raises(ConfigError, match=r"backup\.path is required"):
        plugin.make_file(backup_config(plugin, {"type": "file"}), node_info())
