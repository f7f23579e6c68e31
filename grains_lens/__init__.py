"""Which input tokens drive a behaviour, and steering along what they do: GrAInS for hooked models.

Every public name is listed, with the module it comes from, in `__init__.pyi`; nothing is imported
before it is first used, so that `import grains_lens` and `grains-lens --help` stay quick.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
