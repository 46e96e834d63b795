"""What `litefs config show` must not show."""

from __future__ import annotations

from litefs.config.loading import check_text
from litefs.config.masking import MASK, masked
from litefs.plugins import Plugins


def test_masked(plugins: Plugins) -> None:
    text = (
        "lease: {type: sample, sample: {key: 'https://user:hunter2@host/prefix', secret: shunter2}}\n"
        "http: {auth-token: hunter2}\nbackup: {auth-token: hunter2, url: http://host/path}\n"
        "exec: [{cmd: 'load postgres://u:hunter2@h/db'}]\n"
    )
    checked = check_text(text, plugins=plugins, environment={})
    shown = masked(checked.schema, checked.tree)
    assert "hunter2" not in str(shown)
    assert shown["lease"]["sample"]["key"] == f"https://user:{MASK}@host/prefix"
    assert shown["http"]["auth-token"] == MASK
    assert shown["backup"]["url"] == "http://host/path"
    assert checked.tree["http"]["auth-token"] == "hunter2"


def test_an_empty_secret_is_shown_as_empty(plugins: Plugins) -> None:
    checked = check_text("lease: {type: static}", plugins=plugins, environment={})
    assert masked(checked.schema, checked.tree)["http"]["auth-token"] == ""
