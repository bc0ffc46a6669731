"""What earlier builds left behind, and the proof that this one goes on with it. README.md says what is stored and how."""
