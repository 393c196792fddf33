"""The one form of model: configuration, layers, file format."""
