"""`python -m runner` is the console script `shapwatch`."""

from runner.cli import main

if __name__ == "__main__":
    main()
