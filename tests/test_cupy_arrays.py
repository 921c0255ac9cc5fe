"""Arrays from outside on the CuPy backend: what is shared, copied and waited for."""

import numpy as np
import pytest

import tinyml
from emulation import cupy
from emulation.backend import EmulatedCupyBackend

pytestmark = [pytest.mark.host, pytest.mark.emulation]

NAME = "cupy-emulated"


@pytest.fixture(autouse=True)
def selected():
    tinyml.register_backend(NAME, EmulatedCupyBackend)
    tinyml.set_backend(NAME)
    yield
    tinyml.set_backend(None)


def images(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


class TestArraysFromOutside:
    def test_cuda_array_interface_shares_memory(self):
        class Foreign:
            def __init__(self, array):
                self.__cuda_array_interface__ = array.__cuda_array_interface__
                self.kept = array

        array = tinyml.asarray(images(2, 3))
        assert tinyml.asarray(Foreign(array)).data.ptr == array.data.ptr

    def test_memory_of_another_device_stays_there(self):
        class Foreign:
            def __init__(self, array):
                self.__cuda_array_interface__ = array.__cuda_array_interface__
                self.kept = array

        array = tinyml.asarray(images(2, 3), f"{NAME}:1")
        assert tinyml.asarray(Foreign(array)).device.id == 1
        assert tinyml.asarray(Foreign(array), f"{NAME}:0").device.id == 0

    def test_dlpack_on_the_device_shares_memory(self, monkeypatch):
        """An object on a GPU is passed to CuPy, which copies nothing."""
        array = tinyml.asarray(images(2, 3))

        class Foreign:
            def __dlpack_device__(self):
                return 2, 0  # CUDA

        given = []
        monkeypatch.setattr(cupy, "from_dlpack", lambda a: given.append(a) or array)
        foreign = Foreign()
        assert tinyml.asarray(foreign) is array
        assert given == [foreign]

    @pytest.mark.parametrize("has_interface", [False, True])
    def test_dlpack_comes_before_the_interface(self, monkeypatch, has_interface):
        """Through DLPack the producer's stream is waited for; the interface may name none."""
        array = tinyml.asarray(images(2, 3), f"{NAME}:1")
        read = []

        class Tensor:
            def __dlpack_device__(self):
                return 2, 1

            if has_interface:

                @property
                def __cuda_array_interface__(self):
                    read.append("interface")
                    return array.__cuda_array_interface__

        def from_dlpack(tensor):
            read.append(f"DLPack on device {cupy.cuda.Device().id}")
            return array

        monkeypatch.setattr(cupy, "from_dlpack", from_dlpack)
        assert tinyml.asarray(Tensor()) is array
        assert read == ["DLPack on device 1"]

    def test_what_dlpack_cannot_share_comes_by_the_interface(self, monkeypatch):
        array = tinyml.asarray(images(2, 3))

        class Tensor:
            kept = array
            __cuda_array_interface__ = array.__cuda_array_interface__

            def __dlpack_device__(self):
                return 2, 0

        def from_dlpack(tensor):
            raise BufferError("unsupported dtype")

        monkeypatch.setattr(cupy, "from_dlpack", from_dlpack)
        assert tinyml.asarray(Tensor()).data.ptr == array.data.ptr
        del Tensor.__cuda_array_interface__
        with pytest.raises(TypeError, match="Tensor with no array form: unsupported dtype"):
            tinyml.asarray(Tensor())

    def test_a_copy_between_devices_waits_before_and_after(self, monkeypatch):
        """Else it could read what is still written, or its source be freed while it is read."""
        array = tinyml.asarray(images(2, 3), f"{NAME}:0")
        order = []

        def noted(owner, name, text):
            method = getattr(owner, name)

            def call(self, *arguments):
                order.append(text(self))
                return method(self, *arguments)

            monkeypatch.setattr(owner, name, call)

        here = lambda _: f"on device {cupy.cuda.Device().id}"  # noqa: E731
        noted(cupy.cuda.Device, "synchronize", lambda device: f"wait for device {device.id}")
        noted(cupy.ndarray, "copy", lambda a: f"copy {here(a)}")
        noted(cupy.cuda.Stream, "synchronize", lambda s: f"wait for the stream {here(s)}")
        tinyml.asarray(array, f"{NAME}:1")
        expected = ["wait for device 0", "copy on device 1", "wait for the stream on device 1"]
        assert order == expected
        layer = tinyml.layers.Conv2D("conv", (1, 4, 4), 2, 3).to(f"{NAME}:0")
        order.clear()
        layer.to(f"{NAME}:1")
        assert order == expected * 4  # values and gradients of two parameters

    def test_dlpack_on_the_host_is_copied(self):
        host = images(2, 3)

        class Foreign:
            def __dlpack__(self, **kwargs):
                return host.__dlpack__(**kwargs)

            def __dlpack_device__(self):
                return host.__dlpack_device__()

        np.testing.assert_array_equal(tinyml.to_numpy(tinyml.asarray(Foreign())), host)

    def test_a_masked_array_would_lose_its_mask(self):
        with pytest.raises(TypeError, match="masked"):
            tinyml.asarray(np.ma.masked_array([1.0, 2.0], [True, False]))

    def test_numpy_arrays_are_not_copied_silently(self):
        y, switches = tinyml.max_pool(tinyml.asarray(images(1, 1, 4, 4)), 2)
        with pytest.raises(tinyml.MixedBackendError):
            tinyml.max_unpool(tinyml.to_numpy(y), switches)
