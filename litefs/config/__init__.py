"""litefs.yml: one frozen, checked object out of YAML text, environment variables and the schemas of plugins."""

from litefs.config.durations import parse_duration
from litefs.config.loading import Checked, check, find, load, loads, search_path
from litefs.config.model import (
    BackupConfig,
    Config,
    DataConfig,
    ExecCommand,
    FuseConfig,
    HTTPConfig,
    LeaseConfig,
    LogConfig,
    ProxyConfig,
    TracingConfig,
)
from litefs.config.problems import InvalidConfig, Problem

__all__ = [
    "BackupConfig",
    "Checked",
    "Config",
    "DataConfig",
    "ExecCommand",
    "FuseConfig",
    "HTTPConfig",
    "InvalidConfig",
    "LeaseConfig",
    "LogConfig",
    "Problem",
    "ProxyConfig",
    "TracingConfig",
    "check",
    "find",
    "load",
    "loads",
    "parse_duration",
    "search_path",
]
