"""The hash tree: test vectors of RFC 6962's reference implementation, and a second way to one root."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.proof.files import leaf, tree_root
from audit.tree import root

# Leaves and roots of the tests of certificate-transparency (merkletree: testdata), sizes 0 to 8.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("size", range(9))
def test_roots_of_the_reference_implementation(size):
    assert root([bytes.fromhex(text) for text in LEAVES[:size]]).hex() == ROOTS[size]


def test_a_node_cannot_pass_for_a_leaf():
    inner = b"".join(hashlib.sha256(b"\x00" + part).digest() for part in (b"a", b"b"))
    assert root([b"a", b"b"]) != root([inner])


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8"), min_size=1), st.text("0123456789abcdef"), max_size=40
    )
)
def test_what_signs_and_what_verifies_find_one_root(files):
    hashes = sorted(files.items())
    assert root([leaf(path, sha) for path, sha in hashes]) == tree_root(hashes)


def test_a_file_that_takes_another_name_changes_the_root():
    assert tree_root([("a", "1"), ("b", "2")]) != tree_root([("a", "2"), ("b", "1")])
