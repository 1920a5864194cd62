"""The console: rules, decisions and health as pages of the admin listener, for those who run the service.

It reads what the parts know anyway and decides nothing: what it shows of a request was
masked by the audit log, and what it explains is decided by the gateway's own flow.
"""
