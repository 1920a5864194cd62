"""extauthz: external authorization for shared Kubeflow, as an Envoy/Istio ext_authz provider.

Values flow one way. Top-level modules are the values (`request`, `subject`,
`review`, `decision`); packages are the steps that turn one into the next
(`identity`, `policy`, `lookup`, `access`); `gateway` is the one flow that joins them.
"""

__version__ = "0.1.0"
