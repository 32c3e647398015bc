"""Values that the packages share: plain frozen dataclasses."""
