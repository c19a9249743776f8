"""``python -m diffnmf``: the program ``diffnmf``."""

from diffnmf.start import main

if __name__ == "__main__":
    main()
