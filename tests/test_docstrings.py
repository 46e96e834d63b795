"""Every public name says what it is, modules, classes, functions and members; an override may inherit it."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import litefs

PLUGINS = (
    "backup_cloud", "backup_s3", "backup_store", "cloud_server", "lease_consul", "lease_static", "proxy_fly",
)  # fmt: skip
ENTRANCES = {"litefs.__main__"}  # what importing them does is to run
MEMBERS = (staticmethod, classmethod, property)


def modules() -> Iterator[ModuleType]:
    for package in (litefs, *(importlib.import_module(f"litefs_{name}") for name in PLUGINS)):
        yield package
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name not in ENTRANCES and ".templates" not in found.name:
                yield importlib.import_module(found.name)


def undocumented(module: ModuleType) -> Iterator[str]:
    if not module.__doc__:
        yield module.__name__
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", "") != module.__name__:
            continue
        if inspect.isclass(value):
            yield from members(value)
        elif inspect.isfunction(value) and not inspect.getdoc(value) and not is_hook(value):
            yield f"{module.__name__}.{name}"


def members(kind: type) -> Iterator[str]:
    where = f"{kind.__module__}.{kind.__qualname__}"
    if not kind.__doc__:
        yield where
    for name, value in vars(kind).items():
        if name.startswith("_") or not (inspect.isfunction(value) or isinstance(value, MEMBERS)):
            continue
        if not inspect.getdoc(getattr(kind, name)) and not is_hook(value):
            yield f"{where}.{name}"


def is_hook(value: Any) -> bool:
    """An implementation of a hook: what it is for is said in `litefs.hookspecs`."""
    return hasattr(value, "litefs_impl")


def test_every_public_name_has_a_docstring() -> None:
    assert [name for module in modules() for name in undocumented(module)] == []
