"""The peers, each as its own documentation has it; they run in an environment that holds nothing of ours."""
