from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.cloud import CloudServer, running_cloud


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudServer]:
    """One server for all tests of a module; each has clusters of its own."""
    with running_cloud(tmp_path_factory.mktemp("server")) as found:
        yield found


@pytest.fixture
def server(shared: CloudServer) -> CloudServer:
    return shared.begin_test()
