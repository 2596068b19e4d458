"""``python -m fastnn.cli`` is the ``fastnn`` command."""

from fastnn.cli import main

if __name__ == "__main__":
    main()
