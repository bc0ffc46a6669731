"""The Merkle tree: published roots, and inclusion paths that lead to them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.domain.base import merkle


def test_the_tree_has_the_published_roots() -> None:
    """The reference vectors of Certificate Transparency."""
    leaves = [
        merkle.leaf_hash(bytes.fromhex(text))
        for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
    ]
    assert merkle.tree_root([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert merkle.tree_root(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert merkle.tree_root(leaves[:3]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert merkle.tree_root(leaves).hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


@given(size=st.integers(1, 40), data=st.data())
def test_inclusion_paths_lead_to_the_root_and_nowhere_else(size: int, data: st.DataObject) -> None:
    leaves = [merkle.leaf_hash(bytes([index])) for index in range(size)]
    index = data.draw(st.integers(0, size - 1))
    path = merkle.inclusion_path(leaves, index)
    root = merkle.tree_root(leaves)
    assert merkle.root_of_path(leaves[index], index, size, path) == root
    other = data.draw(st.integers(-1, size + 1).filter(lambda drawn: drawn != index))
    assert merkle.root_of_path(leaves[index], other, size, path) != root
    assert merkle.root_of_path(leaves[index], index, size, [*path, root]) != root
    if path:
        assert merkle.root_of_path(leaves[index], index, size, path[:-1]) != root
