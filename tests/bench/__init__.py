"""The benches themselves: rows and ratios, and one run of everything that needs neither Ray nor peers."""
