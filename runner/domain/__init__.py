"""Types that all packages share: frozen dataclasses without input or output."""
