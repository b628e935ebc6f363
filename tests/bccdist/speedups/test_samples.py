"""What is made of patches of tissue before ways are measured."""

from bccdist.speedups.samples import halo_of


def test_the_halo_holds_the_widest_field() -> None:
    assert halo_of({"psi_0": {"99": 90, "99.9": 157}, "psi_4": {"99": 37, "99.9": 72}}) == 160
    assert halo_of({"psi_4": {"99": 1, "99.9": 64}}) == 64
    assert halo_of({"psi_4": {"99": 256, "99.9": 256}}) == 256
