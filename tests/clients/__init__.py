"""Real clients, each with a virtual environment of its own, and how the tests find and drive them."""
