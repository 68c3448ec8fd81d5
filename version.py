"""The version, once: CHANGELOG.md and CITATION.cff name the same number (https://semver.org)."""

__version__ = "2.0.0"
