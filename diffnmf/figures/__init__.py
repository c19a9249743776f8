"""Pictures of groups, bases, curves and comparisons. matplotlib is imported where something is drawn."""
