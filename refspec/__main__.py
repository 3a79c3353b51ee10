"""The command line as `python -m refspec`."""

from refspec.cli import main

if __name__ == "__main__":
    main()
