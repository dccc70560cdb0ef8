"""The queries and what they answer, without HTTP. `refs` and `position` are pure."""
