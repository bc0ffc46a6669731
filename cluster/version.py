"""The version of the code. The API and ``aragora-cp version`` show it; actors of another version are replaced."""

VERSION = "0.12.0"
