"""Shifts: accidental changes of inputs, batched on the model's device, the same for every batch size.

Nothing here looks at the model: these are the changes that the world makes, not an attacker. `corruptions`
holds the fifteen image corruptions at five severities, `tabular` their counterparts for tables, `spatial`
moves images, `series` perturbs signals, and `outcome` counts what a model still gets right.

    from audit.shift.corruptions import corrupt
    foggy = corrupt(images, "fog", 3, rows, seed, low=0.0, high=1.0)
"""
