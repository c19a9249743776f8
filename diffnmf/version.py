"""The version of the library, in one place for the code."""

__version__ = "0.1.0"
