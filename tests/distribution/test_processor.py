import pytest
import tensorflow as tf

from stml_tf.distribution import processor


def test_bfloat16_is_told_from_the_processors_flags(monkeypatch, tmp_path):
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(processor, "Path", lambda _: info)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    told = {}
    for flags in ("avx512f avx512_bf16", "amx_bf16 amx_tile", "avx512f avx512_bf16x", ""):
        info.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\n")
        told[flags] = processor.has_native_bfloat16.__wrapped__()
    assert list(told.values()) == [True, True, False, False]
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    info.write_text("flags : avx512_bf16")
    assert not processor.has_native_bfloat16.__wrapped__()
    info.unlink()
    assert not processor.has_native_bfloat16.__wrapped__()


@pytest.mark.parametrize(
    ("capabilities", "native", "expected"),
    [
        ([], True, "mixed_bfloat16"),
        ([], False, "float32"),
        ([(9, 0), (8, 0)], False, "mixed_bfloat16"),
        ([(9, 0), (7, 5)], True, "float32"),
        ([None], True, "float32"),
    ],
)
def test_the_quick_precision_is_what_all_devices_have(monkeypatch, capabilities, native, expected):
    monkeypatch.setattr(processor, "has_native_bfloat16", lambda: native)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: list(range(len(capabilities))))
    details = [{"compute_capability": each} if each else {} for each in capabilities]
    monkeypatch.setattr(tf.config.experimental, "get_device_details", details.__getitem__)
    assert processor.quick_precision() == expected
