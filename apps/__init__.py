"""The `hodsim` command. A sweep's worker processes import this module as their main one: it is to be light."""

import sys


def main() -> None:
    """Run the command line."""
    try:
        from hodsim.apps import cli

        app = cli.program(*[word for word in sys.argv[1:] if not word.startswith("-")][:1])
    except KeyboardInterrupt:  # while PyTorch and numba are loaded, which takes seconds
        print("hodsim: stopped.", file=sys.stderr)
        sys.exit(130)
    except (MemoryError, ImportError) as error:
        if isinstance(error, ImportError) and "failed to map segment" not in str(error):  # a shared library without room
            raise
        print("hodsim: there is not enough memory to start.", file=sys.stderr)
        sys.exit(1)
    cli.run(app)
