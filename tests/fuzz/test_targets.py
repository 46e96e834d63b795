"""Every target, with some hundred inputs made from right ones. `python -m tests.fuzz` for the long form."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fuzz import containers
from tests.fuzz.targets import SEEDS, TARGETS, Target

SLOW = {
    "data_directory": 15, "http_api": 40, "answer": 60, "litefs_yml": 60, "backup_answer": 60, "wal_file": 60,
    "vault": 20, "consul_answers": 30, "cloud_request": 50, "s3_answer": 20, "answer_over_http2": 30,
    "restored_from_cloud": 60, "node_status": 60, "environment": 60, "event_stream": 60, "branch_file": 80,
    "small_files": 60,
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
changes = st.lists(st.tuples(st.integers(0), st.binary(max_size=3), st.integers(0, 3)), max_size=4)


def altered(data: bytes, edits: list[tuple[int, bytes, int]]) -> bytes:
    """Some bytes replaced, inserted or taken out."""
    for place, new, old in edits:
        at = place % (len(data) + 1)
        data = data[:at] + new + data[at + old :]
    return data


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_target(name: str) -> None:
    target: Target = TARGETS[name]
    seeds = st.builds(altered, st.sampled_from(SEEDS[name]), changes)

    @settings(
        max_examples=SLOW.get(name, 150),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @example(b"")
    @example(b"[" * 100_000)
    @example(b"[" * 100_000 + b"\n")
    @given(st.one_of(seeds, st.binary(max_size=400)))
    def check(data: bytes) -> None:
        target(data)

    check()


@pytest.mark.parametrize(
    "text",
    [
        b'{"x":{"txid":5}}',
        b'{"x":[1]}',
        b'{"x":5}',
        b'{"x":{"txid":"0000000000000001","postapplychecksum":null}}',
        b"[[1,2],[3,4]]",
        b"[1]",
        b"1e999",
        b'{"format":1,"database":"x","pos":5,"epoch":1,"timestamp":1,"pageSize":1,"commit":1,"tail":[]}',
        b'{"pos":NaN}',
        b'{"code":"EPOSMISMATCH","pos":5}',
        b'{"code":"EPOSMISMATCH","pos":{"TXID":7}}',
    ],
)
@pytest.mark.parametrize("name", ["backup_answer", "backup_head", "other_nodes", "consul_value"])
def test_odd_json(name: str, text: bytes) -> None:
    for prefix in (b"", b"0", b"4"):
        TARGETS[name](prefix + text)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("node_status", b'{"clusterID":"\\u001b[2J","members":[]}'),
        ("node_status", b'{"members":[{"advertiseURL":"http://\\udcae/"}]}'),
        ("node_status", b'{"members":[{"advertiseURL":"http://h:1"}]}'),
        ("node_status", b'{"backup":{"active":true,"verification":{"problems":true}}}'),
        ("node_status", b'{"backup":{"active":true,"lagTransactions":1,"lagMs":1%s}}' % (b"0" * 400)),
        ("event_stream", b'{"type":"tx","db":[]}\n'),
        ("event_stream", b"[" * 100_000 + b"\n"),
        (
            "other_standing",
            b'{"id":"","clusterID":"LFSC0123456789ABCDEF","hostname":"","transactions":-1,"eligible":true}',
        ),
        ("consul_answers", b'\0[{"Key":"a"}]'),
        ("consul_answers", b'\0{"a":1}'),
        ("consul_answers", b"\0" + b"[" * 100_000),
        ("consul_answers", b'\1{"ID":5}'),
        ("consul_answers", b'\2[{"TTL":"-5s"}]'),
        ("branch_file", b'{"database":"x","reason":"diverged","time":5}'),
        ("branch_file", b'{"database":"x","reason":"diverged","time":"","tip":true}'),
        ("vault", b'\6{"time":"x","seconds":1,"databases":1,"problems":[],"count":1}'),
        ("cloud_request", b"\0GET /clusters?offset=123456789x\n"),
    ],
)
def test_found(name: str, data: bytes) -> None:
    """What was found once."""
    TARGETS[name](data)


def test_a_branch_without_a_page_size() -> None:
    right, _ = containers._branch()
    TARGETS["branch_file"](json.dumps({**right, "page_size": 0}).encode())
    TARGETS["branch_file"](json.dumps({**right, "page_size": 65536}).encode())
