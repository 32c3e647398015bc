"""The models that can be explained, one file and one YAML each; every one fulfils `protocols.Model`."""
