"""The query API: reads the store, and answers who asks about a customer or about all of them."""
