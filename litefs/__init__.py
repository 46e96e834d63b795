"""LiteFS for Python: a FUSE file system that replicates SQLite databases across machines."""

__version__ = "0.1.0"
