"""`python -m backdrop.cli`, where the script `backdrop` is not on the path."""

from backdrop.cli import main

main()
