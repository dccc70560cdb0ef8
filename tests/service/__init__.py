"""One service at a time, on the real parts around it."""
