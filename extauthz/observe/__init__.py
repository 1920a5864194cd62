"""What operators see of the service: its metrics and its audit log."""
