"""Archives of files from or for another machine, and what of them is refused."""
