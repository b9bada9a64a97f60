"""``python -m ffverify`` is the command ``ffverify``."""

from .command.main import main

if __name__ == "__main__":  # worker processes import it under another name
    main()
