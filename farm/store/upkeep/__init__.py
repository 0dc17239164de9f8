"""Looking after a store: what is whole, what is needed, what may go."""
