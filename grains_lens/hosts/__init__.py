"""Hooked models. Only this package attaches hooks, continues caches and imports transformer-lens.

(The training of the worlds, which is not in the wheel, attaches hooks to its own models.)"""
