"""`python -m palyra_trio` is `palyra-trio`."""

from palyra_trio.cli.main import main

main()
