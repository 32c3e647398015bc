"""Whether the reasons have drifted: reference and live attributions in, a verdict out. Pure."""
