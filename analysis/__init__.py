"""Studies and benchmarks: each a question, answered by a command; they use grains_lens's public names only."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"notebook": ["run"], "results": ["Result", "Table"], "study": ["names"]}
)
