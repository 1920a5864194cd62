"""Which namespace an object belongs to, where the request itself does not say."""
