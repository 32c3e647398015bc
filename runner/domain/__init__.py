"""The nouns: plain frozen values that every other package may hold."""
