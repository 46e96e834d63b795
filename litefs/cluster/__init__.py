"""A node's part in its cluster: the lease, elections, hand-overs, other nodes, the halt lock."""
