"""Which prompt tokens drive a preference, and through which layers."""
