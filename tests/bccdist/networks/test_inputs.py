"""Stored pixels become the normalised input of the network."""

import numpy as np
import torch

from bccdist.networks.inputs import MEAN_RGB, STD_RGB, to_network_input


def test_every_channel_is_normalised_by_its_own_statistics() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)
    found = to_network_input(torch.from_numpy(images))
    expected = ((images / 255 - np.array(MEAN_RGB)) / np.array(STD_RGB)).transpose(0, 3, 1, 2)
    assert found.shape == (2, 3, 4, 6)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_the_stored_image_stays_as_it_is() -> None:
    images = torch.full((1, 2, 2, 3), 200, dtype=torch.uint8)
    to_network_input(images)
    assert (images == 200).all()


def test_channels_are_last_in_memory() -> None:
    found = to_network_input(torch.zeros(2, 4, 6, 3, dtype=torch.uint8))
    assert found.is_contiguous(memory_format=torch.channels_last)
