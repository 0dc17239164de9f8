"""Rank engines by paired comparison: they run in turn, and a rank stands only where it is proven.

`rounds` runs the engines block by block, `intervals` says by how much two of them differ, `ranks`
makes ranks of that. None of them knows a runtime: an engine is a function that takes its time.
`docs/method.md` says where the method comes from.
"""
