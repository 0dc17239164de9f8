"""One page of a sweep's results: plot, table, failures, disagreements, how it was measured."""
