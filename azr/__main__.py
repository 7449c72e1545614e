"""The command `azr`, and `python -m azr`."""

from azr.allocator import tune


def main() -> None:
    tune()
    from azr.cli import main as command  # after `tune`, which may start the process over

    command()


if __name__ == "__main__":
    main()
