"""Room on the stack: each function of a mutated package is called through two more."""

import sys

sys.setrecursionlimit(3 * sys.getrecursionlimit())
