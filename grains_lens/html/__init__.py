"""How results are displayed in a notebook."""
