"""Studies and benchmarks. Each is a question, answered by a command. They use only public names of
grains_lens."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"notebook": ["run"], "results": ["Result", "Table"], "study": ["names"]}
)
