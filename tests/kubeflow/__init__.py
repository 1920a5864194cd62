"""A stub Kubeflow that behaves as the real one was measured to: its routing, its ids, its tenants, its holes.

It checks no rights at all, so whatever comes through shows what the gateway let through.
"""
