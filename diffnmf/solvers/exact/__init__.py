"""From an approximate W to the exact one: what every exact solver shares."""
