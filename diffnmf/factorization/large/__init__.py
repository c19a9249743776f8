"""Matrices larger than memory, and matrices that several processes share."""
