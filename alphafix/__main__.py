"""`python -m alphafix` is the command `alphafix`; both begin here, before anything is loaded."""

from alphafix.interrupts import end_at_once


def main() -> None:
    """Run the command line, heeding an interrupt from the first moment on."""
    end_at_once()
    from alphafix.commands.app import main as run

    run()


if __name__ == "__main__":
    main()
