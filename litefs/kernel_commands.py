"""The kernel's own sub-commands: data only, so that dispatching one of them imports no plugin machinery."""

from __future__ import annotations

from litefs.extensions import CommandSpec

KERNEL_COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec("mount", "litefs.cli.mount:command", "mount the file system and run the node"),
    CommandSpec("run", "litefs.cli.run:command", "run a command, with the halt lock or after a promotion if asked to"),
    CommandSpec("import", "litefs.cli.import_:command", "replace a database by a SQLite file"),
    CommandSpec("export", "litefs.cli.export:command", "write a consistent copy of a database to a file"),
    CommandSpec("status", "litefs.cli.status:command", "show the nodes of the cluster and their databases"),
    CommandSpec("events", "litefs.cli.events:command", "print what happens on a node, line by line"),
    CommandSpec("promote", "litefs.cli.promote:command", "make a node the primary"),
    CommandSpec("demote", "litefs.cli.demote:command", "have the primary hand over"),
    CommandSpec("cluster", "litefs.cli.cluster:command", "forget or set which cluster this node belongs to"),
    CommandSpec("branches", "litefs.cli.branches:command", "list, export, discard what the cluster went on without"),
    CommandSpec("config", "litefs.cli.config:command", "check, show or describe litefs.yml"),
    CommandSpec("plugins", "litefs.cli.plugins:command", "list installed plugins"),
    CommandSpec("plugin", "litefs.cli.plugin:command", "begin a plugin of your own"),
    CommandSpec("version", "litefs.cli.version:command", "print the version"),
)
