"""Conversion of ONNX models to ONNX Runtime's own format: `python -m sardonyx.tools.convert_onnx_models_to_ort MODEL_OR_FOLDER`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sardonyx.base.atomic_file import replacing
from sardonyx.graph.load import LoadOptions, load
from sardonyx.graph.ort_writer import write_ort
from sardonyx.graph.verify import knows_nothing


def convert_onnx_models_to_ort(
    model_path_or_dir: str | os.PathLike[str],
    output_dir: str | os.PathLike[str] | None = None,
    allow_conversion_failures: bool = False,
) -> list[Path]:
    """Write an .ort file for a model, or for each .onnx file in a folder and the folders in it. Returns the paths of the files.

    output_dir: where to write; by default beside each model. Nodes are not optimised: sessions do that when they load the file.
    allow_conversion_failures: leave out models that can't be converted, unless none can. Raises FileNotFoundError if there is no
    model, else SardonyxError.
    """
    source = Path(model_path_or_dir)
    found = sorted(source.rglob("*.onnx")) if source.is_dir() else [source]
    if not found:
        raise FileNotFoundError(f"No .onnx files were found in {source}")
    root, made, problem = (source if source.is_dir() else source.parent), [], None
    for path in found:
        target = (Path(output_dir) / path.relative_to(root) if output_dir is not None else path).with_suffix(".ort")
        try:
            data = write_ort(load(path, LoadOptions(knows=knows_nothing)))
        except Exception as error:
            if not allow_conversion_failures:
                raise
            problem = error
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            file.write(data)
        made.append(target)
    if not made and problem is not None:
        raise problem
    return made


def main() -> None:
    """Convert the models that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model_path_or_dir", type=Path, help="an .onnx file, or a folder of them")
    parser.add_argument("--output_dir", type=Path, help="where to write; by default beside each model")
    parser.add_argument("--allow_conversion_failures", action="store_true", help="go on when a model can't be converted")
    given = parser.parse_args()
    for path in convert_onnx_models_to_ort(given.model_path_or_dir, given.output_dir, given.allow_conversion_failures):
        print(path)


if __name__ == "__main__":
    main()
