"""``python -m diffnmf.cli``: what ``torchrun -m`` and ``accelerate launch -m`` start."""

from diffnmf.cli import main

if __name__ == "__main__":
    main()
