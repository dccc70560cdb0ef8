"""The routes, one module per resource; `gate` stands before all of them."""
