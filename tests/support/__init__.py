"""The rig: real servers and processes for the tests, and what watches over them."""
