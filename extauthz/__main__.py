"""`python -m extauthz` is the command `extauthz`."""

from extauthz.cli import main

main()
