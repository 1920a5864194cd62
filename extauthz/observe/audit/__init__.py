"""The audit log: who asked for what, what was answered, and why."""
