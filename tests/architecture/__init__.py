"""Laws of the tree itself."""
