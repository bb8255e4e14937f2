"""``python -m runner``."""

from runner.cli.command import main

if __name__ == "__main__":
    main()
