"""``python -m commin``."""

from commin.cli.main import main

main()
