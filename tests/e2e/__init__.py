"""The whole product from outside, as its users meet it."""
