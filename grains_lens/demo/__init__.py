"""The demo behind `grains-lens demo`: GrAInS and its rivals on a small shipped model, judged on held-out
questions."""

import lazy_loader

# The message that the demo has begun is printed before torch is imported.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={"progress": ["Stages"], "report": ["SHORT", "Settings"], "study": ["run"]},
)
