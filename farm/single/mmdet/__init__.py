"""MMDetection's own data sets, evaluation and drawing, as the single-model tools use them."""
