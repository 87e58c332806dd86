"""The `hodsim` command. A sweep's worker processes import this module as their main one: it is to be light."""


def main() -> None:
    """Run the command line."""
    from hodsim.apps import cli

    cli.main()
