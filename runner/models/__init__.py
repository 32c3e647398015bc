"""Models to explain, one module and one YAML file per kind; each implements `protocols.Model`."""
