"""What ``aragora-cp doctor`` looks at, a family of checks a file."""
