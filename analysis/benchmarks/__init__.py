"""How fast, and against whom: ratios between contenders that take turns in one process, on one thread."""
