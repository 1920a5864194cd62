"""The edges on servers of our own: asyncio protocols that answer a cached check within one read."""
