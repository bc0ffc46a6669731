"""The peers, each used as its documentation says, in an environment without the product's packages."""
