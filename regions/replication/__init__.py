"""What runs between the databases of two regions."""
