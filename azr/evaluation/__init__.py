"""EVALUATED: benchmarks, scores with intervals, and paired comparisons of two models."""
