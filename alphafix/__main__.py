"""`python -m alphafix` is the command `alphafix`."""

from alphafix.commands.app import main

main()
