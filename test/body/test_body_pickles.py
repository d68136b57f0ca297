# SPDX-License-Identifier: Apache-2.0
"""SMPL's pickles: genuine ones are read exactly, malicious ones are refused and execute nothing."""

import contextlib
import copyreg
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers_smplx import (
    chumpy_object,
    fake_chumpy,
    python2_pickle,
    smpl_arrays,
    write_official_pickle,
)
from helpers_training import small_body
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from key2mesh_core.body.files import load_body
from key2mesh_core.body.pickles import MAX_FILE_BYTES, read_pickle
from key2mesh_core.errors import BodyFileError


def with_face(body, path):
    """Official files have SMPL's mesh; ours are small, so the face is stated."""
    entries = {**smpl_arrays(body), "face_regressor": body.face_regressor}
    path.write_bytes(python2_pickle(entries))
    return path


# --- genuine files -----------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["csc", "csr"])
@pytest.mark.parametrize("components", [10, 300])
@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_official_files_are_read_exactly(tmp_path, layout, components, protocol):
    path = tmp_path / "basicModel_f_lbs_10_207_0_v1.0.0.pkl"
    body = small_body(correctives=True)
    expected = write_official_pickle(
        path, body, components=components, layout=layout, protocol=protocol
    )
    got = read_pickle(path)
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value, err_msg=key)
    assert "J" not in got  # computed by chumpy: we compute it ourselves


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # scipy.sparse.csc, as of old
def test_pythons_own_unpickler_agrees_about_the_official_file(tmp_path):
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    write_official_pickle(path, small_body(correctives=True))
    ours = read_pickle(path)
    with fake_chumpy():
        theirs = pickle.loads(path.read_bytes(), encoding="latin1")
    assert b"chumpy" in path.read_bytes()
    assert b"numpy.core.multiarray" in path.read_bytes()
    for key in ("v_template", "posedirs", "weights", "kintree_table", "f", "vert_sym_idxs"):
        np.testing.assert_array_equal(ours[key], theirs[key])
        assert ours[key].dtype == theirs[key].dtype
    np.testing.assert_array_equal(ours["J_regressor"], theirs["J_regressor"].toarray())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "value",
    [
        np.arange(24.0).reshape(2, 3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(6, dtype=">i4").reshape(3, 2),
        np.arange(5, dtype=np.uint8),
        np.array([True, False]),
        np.zeros((0, 3), np.float32),
        np.array(3.5),
        np.float64(2.5),
        np.linspace(0, 1, 7, dtype=np.float16),
        sparse.csc_matrix(np.diag([1.0, 0.0, 3.0])[:2]),
        sparse.csr_array(np.diag([0.0, 2.0])),
    ],
    ids=lambda value: f"{type(value).__name__}{value.shape}{value.dtype}",
)
def test_todays_arrays_in_every_protocol(tmp_path, value, protocol):
    path = tmp_path / "new.pkl"
    path.write_bytes(pickle.dumps({"a": value, "text": "x"}, protocol))
    got = read_pickle(path)
    expected = value.toarray() if sparse.issparse(value) else value
    np.testing.assert_array_equal(got["a"], expected)
    assert got["a"].shape == expected.shape
    assert got["text"] == "x"


def test_a_pickled_body_equals_the_same_body_as_npz(tmp_path):
    body = small_body(correctives=True)
    loaded = load_body(with_face(body, tmp_path / "SMPL_MALE.pkl"))
    assert loaded.gender == "male"
    same = replace(body, name="SMPL_MALE", gender="male")
    assert loaded.identifier == same.identifier


def test_only_the_entries_asked_for_are_built(tmp_path):
    path = tmp_path / "body.pkl"
    path.write_bytes(pickle.dumps({"a": np.zeros(3), "b": np.ones(2)}))
    assert list(read_pickle(path, ("b",))) == ["b"]


# --- malicious files ------------------------------------------------------------------------------


class Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def raw(module: str, name: str, *arguments: str) -> bytes:
    """A protocol 0 pickle that calls module.name(*arguments)."""
    pushed = "".join(f"V{argument}\n" for argument in arguments)
    return f"c{module}\n{name}\n({pushed}tR.".encode()


def touch(path: Path) -> str:
    return f"open({str(path)!r}, 'w').close()"


def test_the_payload_is_live_and_we_do_not_run_it(tmp_path):
    mark = tmp_path / "executed"
    content = pickle.dumps({"v_template": Calls(eval, touch(mark))}, 2)
    pickle.loads(content)
    assert mark.exists(), "the payload of this test does nothing"
    mark.unlink()
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(content)
    with pytest.raises(BodyFileError, match=r"SMPL_NEUTRAL\.pkl.*__builtin__\.eval"):
        load_body(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("named", "content"),
    [
        ("posix.system", lambda m: pickle.dumps(Calls(os.system, f"touch {m}"))),
        ("posix.system", lambda m: pickle.dumps(Calls(os.system, f"touch {m}"), 5)),
        ("os.system", lambda m: raw("os", "system", f"touch {m}")),
        ("subprocess.Popen", lambda m: pickle.dumps(Calls(subprocess.Popen, ["touch", str(m)]))),
        ("subprocess.check_output", lambda m: raw("subprocess", "check_output", f"touch {m}")),
        ("builtins.exec", lambda m: pickle.dumps(Calls(exec, touch(m)), 4)),
        ("__builtin__.eval", lambda m: raw("__builtin__", "eval", touch(m))),
        ("builtins.getattr", lambda m: pickle.dumps(Calls(getattr, "np", "load"), 4)),
        ("builtins.__import__", lambda m: raw("builtins", "__import__", "os")),
        ("importlib.import_module", lambda m: raw("importlib", "import_module", "os")),
        ("operator.attrgetter", lambda m: raw("operator", "attrgetter", "system")),
        ("functools.partial", lambda m: raw("functools", "partial")),
        ("numpy.load", lambda m: raw("numpy", "load", str(m))),
        ("numpy.testing._private.utils.runstring",
         lambda m: raw("numpy.testing._private.utils", "runstring", touch(m))),
        ("numpy.core.multiarray.fromfile", lambda m: raw("numpy.core.multiarray", "fromfile")),
        ("numpy.ctypeslib.load_library", lambda m: raw("numpy.ctypeslib", "load_library", "libc")),
        ("scipy.sparse.load_npz", lambda m: raw("scipy.sparse", "load_npz", str(m))),
        ("copyreg.add_extension", lambda m: raw("copyreg", "add_extension", "os", "system")),
        ("chumpy.ch.os.system", lambda m: raw("chumpy.ch", "os.system", f"touch {m}")),
        ("chumpyfoo.Ch", lambda m: raw("chumpyfoo", "Ch")),
        ("pickle.loads", lambda m: raw("pickle", "loads", "x")),
        ("torch.load", lambda m: raw("torch", "load", str(m))),
        ("pathlib.PosixPath", lambda m: raw("pathlib", "PosixPath", str(m))),
    ],
)  # fmt: skip
@pytest.mark.parametrize("nested", [False, True])
def test_anything_but_arrays_is_refused_by_name(tmp_path, named, content, nested):
    mark = tmp_path / "executed"
    payload = content(mark)
    if nested:  # as the value of an unused entry
        payload = b"}Vvert_sym_idxs\n" + payload.removesuffix(b".") + b"s."
    path = tmp_path / "SMPL_NEUTRAL.pkl"
    path.write_bytes(payload)
    with pytest.raises(BodyFileError) as refused:
        read_pickle(path, ("v_template",))
    assert named in str(refused.value)
    assert str(path) in str(refused.value)
    assert ".npz" in str(refused.value)
    assert not mark.exists()


def test_hostile_state_inside_a_chumpy_object_is_refused(tmp_path):
    with fake_chumpy() as chumpy:
        inner = chumpy_object(chumpy["chumpy.ch"].Ch, x=Calls(eval, "1/0"))
        content = python2_pickle({"shapedirs": inner})
    (tmp_path / "body.pkl").write_bytes(content)
    with pytest.raises(BodyFileError, match=r"__builtin__\.eval"):
        read_pickle(tmp_path / "body.pkl")


def test_modules_that_call_themselves_chumpy_are_not_imported(tmp_path, monkeypatch):
    package = tmp_path / "chumpy"
    package.mkdir()
    (package / "__init__.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "body.pkl"
    path.write_bytes(raw("chumpy", "Ch"))
    with pytest.raises(BodyFileError, match="no dictionary"):
        read_pickle(path)
    assert not (tmp_path / "executed").exists()
    assert "chumpy" not in sys.modules


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged"),
        (b"junk", "damaged"),
        (b"]\x94.", "no dictionary"),
        (b"N.", "no dictionary"),
        (b"(ios\nsystem\n.", "os.system"),
        (b"(ichumpy.ch\nCh\n.", "no dictionary"),
        (b"(cchumpy.ch\nCh\no.", "no dictionary"),
        (b"(ios\nsystem\no.", "os.system"),
        (b"\x82\x01.", "EXT1"),
        (b"Pfile\n.", "damaged"),
        (b"}Va\n" + b"0" * 9, "damaged"),
        (b"}(Va\nu.", "damaged"),
        (b"t.", "damaged"),
        (b"h\x07.", "damaged"),
        (b"V\\uZZZZ\n.", "damaged"),
        (b"I12x\n.", "damaged"),
        (b"}r\xff\xff\xff\xff.", "refused"),  # a memo of 2^32 places is 64 GB
        (b"}p4294967295\n.", "refused"),
        (b"cchumpy.ch\nCh\n(VX\ntRa.", "damaged"),
        (b"cchumpy.ch\nCh\n)\x81N}Vkind\nVos.system\ns\x86b.", "no dictionary"),
        (b"T\xff\xff\xff\x7fabc.", "damaged"),
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.", "damaged"),
        (b"\x8b\xff\xff\xff\x7f\x01.", "damaged"),
        (b"}Vposedirs\ncnumpy\nndarray\n)RI3\nbs.", "without content"),
        (b"cchumpy.ch\nCh\n}b.", "damaged"),
    ],
)
def test_malformed_files_are_refused_in_words(tmp_path, content, says):
    path = tmp_path / "body.pkl"
    path.write_bytes(content)
    with pytest.raises(BodyFileError, match=says) as refused:
        read_pickle(path)
    assert str(path) in str(refused.value)


def test_every_truncation_is_refused(tmp_path):
    path = with_face(small_body(), tmp_path / "body.pkl")
    content = path.read_bytes()
    for length in [*range(0, 400), *range(400, len(content), 12289), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(BodyFileError, match=r"body\.pkl"):
            read_pickle(path)


def array_pickle(shape, content=b"\0" * 8, dtype="f8"):
    """A pickle whose array states `shape` whatever its content."""
    from numpy._core.multiarray import _reconstruct

    class Array:
        def __reduce__(self):
            state = (1, shape, np.dtype("f8"), False, content)
            return _reconstruct, (np.ndarray, (0,), b"b"), state

    return python2_pickle({"v_template": Array()}).replace(b"f8", dtype.encode())


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((10**12,), "f8"),
        ((10**9, 10**9, 10**9), "f8"),
        ((2**63, 2**63), "f8"),
        ((-1,), "f8"),
        ((2,), "f8"),
        ((True,), "f8"),
        ((1.0,), "f8"),
        ("ab", "f8"),
        (((1,), (1,)), "f8"),
        ((1,), "O8"),
        ((1,), "V8"),
        ((1,), "S8"),
        ((1,), "U2"),
        ((1,), "M8"),
    ],
)
def test_arrays_that_do_not_fit_their_bytes_are_refused(tmp_path, shape, dtype):
    path = tmp_path / "body.pkl"
    path.write_bytes(array_pickle(shape, dtype=dtype))
    with pytest.raises(BodyFileError, match="v_template"):
        read_pickle(path)


def test_the_same_array_with_a_fitting_shape_is_read(tmp_path):
    (tmp_path / "body.pkl").write_bytes(array_pickle((1, 1)))
    np.testing.assert_array_equal(read_pickle(tmp_path / "body.pkl")["v_template"], [[0.0]])


def test_objects_in_an_array_are_refused(tmp_path):
    path = tmp_path / "body.pkl"
    path.write_bytes(pickle.dumps({"v_template": np.array([1, "x"], dtype=object)}))
    with pytest.raises(BodyFileError, match=r"v_template.*O8"):
        read_pickle(path)


@pytest.mark.parametrize(
    "change",
    [
        {"_shape": (10**9, 10**9)},
        {"_shape": (24,)},
        {"_shape": None},
        {"indices": np.array([0, 99])},
        {"indices": np.array([0, -1])},
        {"indptr": np.array([0, 5, 2])},
        {"indptr": np.array([0, 5, 0])},
        {"indptr": np.array([0, 1])},
        {"data": np.array([1.0])},
        {"data": "no array"},
        {"indptr": np.array([[0, 1, 2]])},
    ],
)
def test_sparse_matrices_that_point_outside_are_refused(tmp_path, change):
    matrix = sparse.csc_matrix(np.eye(2))
    matrix.__dict__.update(change)
    path = tmp_path / "body.pkl"
    path.write_bytes(python2_pickle({"J_regressor": matrix}))
    with pytest.raises(BodyFileError, match="J_regressor"):
        read_pickle(path)


def test_chumpy_selections_that_pick_outside_are_refused(tmp_path):
    path = tmp_path / "body.pkl"
    with fake_chumpy() as chumpy:
        ch, select = chumpy["chumpy.ch"].Ch, chumpy["chumpy.reordering"].Select
        inner = chumpy_object(ch, x=np.arange(4.0))
        outside = chumpy_object(select, a=inner, idxs=np.array([0, 4]))
        path.write_bytes(python2_pickle({"shapedirs": outside}))
        with pytest.raises(BodyFileError, match="shapedirs"):
            read_pickle(path)
        endless = chumpy_object(ch)
        endless.x = endless
        path.write_bytes(python2_pickle({"shapedirs": endless}))
        with pytest.raises(BodyFileError, match="without end"):
            read_pickle(path)


def test_files_larger_than_any_body_are_not_even_read(tmp_path):
    path = tmp_path / "body.pkl"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(BodyFileError, match="larger than any"):
        read_pickle(path)


def test_deep_nesting_ends_in_words_not_in_a_crash(tmp_path):
    path = tmp_path / "body.pkl"
    for content in (b"}Vv_template\n)" + b"\x85" * 10_000 + b"s.", b"]" + b"2a" * 10_000 + b"."):
        path.write_bytes(content)
        with pytest.raises(BodyFileError, match=r"without end|no dictionary"):
            read_pickle(path)
    for content in (b"})" + b"\x85" * 400_000 + b"Vkey\ns.", b"(" * 200_000 + b"."):
        path.write_bytes(content)
        with pytest.raises(BodyFileError, match="refused"):
            read_pickle(path)


def test_lists_that_name_one_another_many_times_cost_nothing(tmp_path):
    path = tmp_path / "many.pkl"
    value = [np.zeros(2)]
    for _ in range(6):
        value = [value] * 1000  # 10^18 arrays, if each were built
    path.write_bytes(pickle.dumps({"many": value}))
    assert len(read_pickle(path)["many"]) == 1000


def test_lists_and_dictionaries_of_arrays_are_read(tmp_path):
    path = tmp_path / "downtown_walking_00.pkl"  # two actors, as 3DPW writes them
    poses = [np.ones((3, 72)), np.zeros((3, 72))]
    content = {"sequence": "walk", "poses": poses, "genders": ["m", "f"], "cam": {"k": np.eye(3)}}
    path.write_bytes(python2_pickle(content))
    got = read_pickle(path)
    assert (got["sequence"], got["genders"]) == ("walk", ["m", "f"])
    np.testing.assert_array_equal(got["poses"], poses)
    np.testing.assert_array_equal(got["cam"]["k"], np.eye(3))


def test_what_this_process_has_registered_as_an_extension_is_not_run(tmp_path):
    """Python caches loaded extensions, and checks the cache before it asks for a class."""
    path = tmp_path / "extension.pkl"
    copyreg.add_extension("os", "getcwd", 240)
    try:
        assert pickle.loads(b"\x82\xf0)R.") == os.getcwd()  # which fills the table
        path.write_bytes(b"\x82\xf0)R.")
        with pytest.raises(BodyFileError, match="EXT1"):
            read_pickle(path)
    finally:
        copyreg.remove_extension("os", "getcwd", 240)


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_altered_files_raise_nothing_but_our_own_error(tmp_path, data):
    with fake_chumpy() as chumpy:
        wrapped = chumpy_object(chumpy["chumpy.ch"].Ch, x=np.arange(3.0))
        content = bytearray(
            python2_pickle({"a": wrapped, "b": sparse.csc_matrix(np.eye(2)), "c": np.zeros((2, 2))})
        )
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "body.pkl"
    path.write_bytes(content)
    with contextlib.suppress(BodyFileError):
        for value in read_pickle(path).values():
            assert isinstance(value, np.ndarray | str | int | float | list | dict)
