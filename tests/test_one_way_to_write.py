"""Nothing but `stml_tf.files` creates, replaces or deletes."""

import ast
from pathlib import Path

import stml_tf

PACKAGE = Path(stml_tf.__file__).parent

METHODS = {
    *("write_text", "write_bytes", "unlink", "rmdir", "mkdir", "touch", "rename", "symlink_to", "hardlink_to", "chmod"),
    *("rmtree", "move", "copy2", "copyfile", "copytree", "makedirs", "removedirs", "unpack_archive", "extractall"),
    *("open_memmap", "tofile", "savez", "savez_compressed", "savetxt", "write_index", "save_weights"),
    *("TemporaryFile", "NamedTemporaryFile", "TemporaryDirectory", "mkdtemp", "mkstemp", "savefig", "write_out"),
    *("create_file_writer", "ParquetWriter"),
}

# Where, what, and why it may.
ALLOWED = {
    ("cli/quiet.py", "TemporaryFile"): "it has no name and ends with the process",
    ("monitoring/summaries.py", "create_file_writer"): "TensorFlow writes event files itself, under names of its own",
    ("export/saved_model_writer.py", "write_out"): "Keras writes a SavedModel by path, into a work folder",
    ("models/pytorch/convert.py", "save"): "Keras writes a model by path, into a work folder",
    ("search/embedding_files.py", "ZipFile"): "writes to a stream of `files`",
    ("search/embedding_files.py", "ParquetWriter"): "writes to a stream of `files`",
    ("search/embedding_files.py", "open"): "a member of an archive in a stream of `files`",
    ("search/index.py", "write_index"): "writes to a stream of `files`",
    ("fitting/checkpoints.py", "savez"): "writes to a stream of `files`",
    ("search/embedding_run.py", "savez"): "writes to a stream of `files`",
    ("monitoring/figures.py", "savefig"): "into memory",
    ("pages/charts.py", "savefig"): "into memory",
    ("recipe/load.py", "write_text"): "into a work folder",
    ("runs/folder.py", "mkdir"): "the folder of a run, before the first file is written to it",
    ("runs/sealed_folder.py", "save"): "writes to a stream of `files`",
    ("runs/sealed_folder.py", "savez"): "writes to a stream of `files`",
    ("data/cache.py", "mkdir"): "the cache's own folder, and a work folder",
    ("data/cache.py", "open"): "into a work folder",
    ("data/sources/archives.py", "mkdir"): "into a work folder",
    ("data/sources/archives.py", "unpack_archive"): "into a work folder",
}


def calls(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        written = ast.unparse(function)
        if written.startswith("files.") or (isinstance(function, ast.Name) and name != "open"):
            continue  # A function of `stml_tf.files`, or one that is looked at where it is defined.
        words = [each for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        modes = [each.value for each in arguments if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        of_a_path = isinstance(function, ast.Attribute) and len(node.args) == 1 and not node.keywords
        writes = any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes)
        if (
            name in METHODS
            or (name in ("open", "ZipFile", "memmap") and writes)
            or (name == "replace" and of_a_path and not words)
            or (name == "remove" and written == "os.remove")
            or (name == "save" and written in ("np.save", "numpy.save", "model.save"))
        ):
            found.add(name)
    return found


def test_the_scan_sees_what_it_should():
    for code in (
        "path.write_text('a')",
        "path.open('w')",
        "open(path, mode='ab')",
        "path.replace(other)",
        "os.remove(path)",
        "np.save(file, array)",
        "shutil.rmtree(path)",
    ):
        assert calls(code), code
    for code in ("path.open('rb')", "open(path)", "text.replace('a', 'b')", "values.remove(1)", "Image.open(path)"):
        assert not calls(code), code


def test_nothing_else_writes():
    found = {
        (path.relative_to(PACKAGE).as_posix(), name)
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "files.py"
        for name in calls(path.read_text(encoding="utf-8"))
    }
    assert found - ALLOWED.keys() == set(), "write through stml_tf.files, or say here why not"
    assert ALLOWED.keys() - found == set(), "allowed, and no longer there"
