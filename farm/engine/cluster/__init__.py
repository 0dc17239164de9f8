"""Steps on a cluster, by Ray: its nodes, the tasks of steps, and a Ray of the farm's own."""
