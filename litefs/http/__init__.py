"""The node's HTTP API, on the paths, shapes and port of LiteFS: HTTP/1.1 and cleartext HTTP/2 on one socket.

`address` binds the port early and is cheap to import; everything else is loaded once the mount is up.
"""
