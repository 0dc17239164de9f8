"""The stages of the table of models (`farm models`): no plan of a matrix has them."""

WEIGHTS = "model.pth"
"""The checkpoint that `table.reference` leaves."""

MOVED = ("moved-1.npz", "moved-2.npz")
"""Pairs of the model's detections on an image and on the same one moved by 2e-7, which
`table.reference` leaves of the first two images at the traced size."""
