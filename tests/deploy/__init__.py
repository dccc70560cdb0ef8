"""What operators are handed is checked."""
