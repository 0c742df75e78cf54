"""Attribution methods, one a file: a function of model, data, seed, rows and settings.

Each gives the fields of an `Attribution` that are its own; `audit.products.attributions.METHODS` names them.
"""
