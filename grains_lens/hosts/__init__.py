"""Hooked models as we need them. Hooks are put on, caches are continued and transformer-lens is imported here alone.

(The training of the worlds, which is not in the wheel, puts hooks on its own models.)"""
