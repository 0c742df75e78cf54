"""Explanation kernels, batched across rows on the model's device, and what the checks share."""
