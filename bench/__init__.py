"""How fast a node is, next to native SQLite on the same file system and to real LiteFS: ``python -m bench``."""
