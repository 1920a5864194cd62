"""Kubernetes is the authority: SubjectAccessReview over one connection to the API server."""
