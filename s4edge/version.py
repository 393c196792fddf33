"""The version, as it goes into files."""

VERSION = "0.1.0"
