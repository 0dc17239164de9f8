"""A store in an object store: its objects, a bounded folder of them on each node, its claims."""
