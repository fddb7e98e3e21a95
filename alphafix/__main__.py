"""`python -m alphafix` is the command `alphafix`."""

from alphafix.cli.app import main

main()
