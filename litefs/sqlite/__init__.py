"""SQLite's own on-disk formats: database header, WAL, wal-index, rollback journal, lock bytes.

Pure formats, used by module: no policy, and no locking beyond the calls in `locks`. Sources: the SQLite documents
"Database File Format" and "WAL-mode File Format". Damaged bytes raise `litefs.errors.FormatError`.
"""
