"""May they: a subject and the attributes of a right become a review."""
