"""Entry point of `python -m runner`, the same as the console script `shapwatch`."""

from runner.cli import main

if __name__ == "__main__":
    main()
