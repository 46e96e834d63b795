"""Transactions from the primary to its replicas: frames, streams, what serves them and what applies them."""
