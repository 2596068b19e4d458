"""The oracles: every op in the textbook's form, float64, NumPy alone; and its vjp.

``op(x, ..., **params)`` is the value and ``op_vjp(dy, x, ..., **params)`` the tuple of gradients,
one for each array argument (None where there is none). Nothing here copies the rearrangement that a
kernel uses to stay accurate in float32; where float64 itself would lose the answer, a comment says
so.
"""
