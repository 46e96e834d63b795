"""For authors of plugins: fakes to test against, and suites to run against your own backend.

    from litefs.testing import LeaseConformance

    class TestMyLease(LeaseConformance):
        async def leaser(self, name): ...

Nothing here needs pytest, and nothing in the kernel imports it.
"""

from litefs.testing.backup_conformance import BackupConformance
from litefs.testing.backups import History, MemoryBackup
from litefs.testing.exec_conformance import ExecConformance
from litefs.testing.fakes import FakeLease, FakeLeaser, SharedLease
from litefs.testing.lease_conformance import LeaseConformance
from litefs.testing.proxy_conformance import ProxyConformance
from litefs.testing.settings import (
    backup_config,
    exec_commands,
    lease_config,
    node_info,
    proxy_config,
    whole_config,
)

__all__ = [
    "BackupConformance",
    "ExecConformance",
    "FakeLease",
    "FakeLeaser",
    "History",
    "LeaseConformance",
    "MemoryBackup",
    "ProxyConformance",
    "SharedLease",
    "backup_config",
    "exec_commands",
    "lease_config",
    "node_info",
    "proxy_config",
    "whole_config",
]
