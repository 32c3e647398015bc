"""Writes the quickstart's data and model, made of a data set in scikit-learn, and synthetic subscription plans."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from runner import PACKAGE
from runner.domain.attributions import label_names
from runner.models.linear import LinearModel

DEMO = PACKAGE / "demo"
FEATURES, BASELINE_ROWS, SEED, REGULARISATION = 10, 299, 0, 0.1
PLANS_ROWS = 300
REGIONS = ("north", "south", "Zürich", 'so-called "west", inner')
CHANNELS = (None, "web", "web", "shop", "phone")


def build(folder: Path) -> None:
    """Write the files into a folder."""
    build_measurements(folder)
    build_plans(folder)


def build_measurements(folder: Path) -> None:
    """Write the measurements as JSON Lines, CSV and JSON, and the model."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    data = load_breast_cancer()
    order = np.random.default_rng(SEED).permutation(len(data.target))
    rows, malignant = data.data[order, :FEATURES], (data.target[order] == 0).astype(int)
    labelled = [{"features": row.tolist(), "label": int(y)} for row, y in zip(rows, malignant, strict=True)]
    _write_lines(folder / "baseline.jsonl", labelled[:BASELINE_ROWS])
    unlabelled = [{"features": row["features"]} for row in labelled[BASELINE_ROWS:]]
    _write_lines(folder / "traffic.jsonl", unlabelled)
    _write_csv(folder / "baseline.csv", [[row["label"], *row["features"]] for row in labelled[:BASELINE_ROWS]])
    _write_csv(folder / "traffic.csv", [row["features"] for row in unlabelled])
    _write_lines(folder / "baseline.json", [{"instances": labelled[:BASELINE_ROWS]}])
    _write_lines(folder / "traffic.json", [{"instances": unlabelled}])

    scaler = StandardScaler().fit(rows[:BASELINE_ROWS])
    model = LogisticRegression(C=REGULARISATION, max_iter=10_000, tol=1e-10)
    model.fit(scaler.transform(rows[:BASELINE_ROWS]), malignant[:BASELINE_ROWS])
    weights = model.coef_[0] / scaler.scale_
    bias = model.intercept_[0] - float(scaler.mean_ @ weights)
    (folder / "model.tar.gz").write_bytes(linear_learner_archive(weights, bias))


def build_plans(folder: Path) -> None:
    """Write synthetic customers, and plans drawn by the model of `conf/experiment/multiclass.yaml`."""
    rng = np.random.default_rng(SEED)
    customers = [_customer(rng) for _ in range(2 * PLANS_ROWS)]
    model = _plans_model()
    probabilities_NL = model.predict(pl.DataFrame(customers, infer_schema_length=None))
    labels_N = (rng.random(len(customers))[:, None] > probabilities_NL.cumsum(axis=1)[:, :-1]).sum(axis=1)
    plans = label_names(model.label_headers, probabilities_NL.shape[1])
    labelled = [{**customer, "plan": plans[i]} for customer, i in zip(customers, labels_N, strict=True)]
    _write_lines(folder / "plans-baseline.jsonl", labelled[:PLANS_ROWS])
    _write_lines(folder / "plans-traffic.jsonl", customers[PLANS_ROWS:])


def _customer(rng: np.random.Generator) -> dict[str, object]:
    return {
        "region": REGIONS[rng.integers(len(REGIONS))],
        "age": int(rng.integers(18, 80)),
        "monthly spend": round(5 + 60 * float(rng.random()) ** 2, 2),
        "member": bool(rng.random() < 0.4),
        "channel": CHANNELS[rng.integers(len(CHANNELS))],
    }


def _plans_model() -> LinearModel:
    from omegaconf import OmegaConf

    from runner.cli import CONF

    experiment: Any = OmegaConf.load(CONF / "experiment/multiclass.yaml")
    parameters: Any = OmegaConf.merge(OmegaConf.load(CONF / "model/linear.yaml"), experiment.model)
    return LinearModel(**dict(OmegaConf.to_container(parameters)))  # type: ignore[arg-type]


def linear_learner_archive(weights: NDArray[np.float64], bias: float, **parameters: Any) -> bytes:
    """Return a model.tar.gz in the layout of SageMaker's Linear Learner; `parameters` replace the additional ones."""
    arrays = {"arg:fc0_weight": np.reshape(weights, (-1, 1)), "arg:fc0_bias": np.reshape(bias, (1, 1))}
    extra = {"predictor_type": "binary_classifier", "threshold": 0.5, "loss_type": "logistic", **parameters}
    inner = {
        "additional-params.json": json.dumps(extra).encode(),
        "manifest.json": json.dumps(
            {"mx-mod": "mxnet_module", "additional-params.json": "json", "version": 1}
        ).encode(),
        "mx-mod-0000.params": array_list(arrays),
    }
    return tar_gz({"model_algo-1": zip_archive(inner)})


def array_list(arrays: Mapping[str, NDArray[np.float64]]) -> bytes:
    """Return an MXNet NDArray list of float32 arrays."""
    parts = [struct.pack("<QQQ", 0x112, 0, len(arrays))]
    for array in arrays.values():
        parts.append(struct.pack(f"<IiI{array.ndim}qiii", 0xF993FAC9, 0, array.ndim, *array.shape, 1, 0, 0))
        parts.append(array.astype("<f4").tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    parts += [struct.pack("<Q", len(name.encode())) + name.encode() for name in arrays]
    return b"".join(parts)


def zip_archive(files: Mapping[str, bytes]) -> bytes:
    """Return a zip archive whose bytes depend on the files alone."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()


def tar_gz(files: Mapping[str, bytes]) -> bytes:
    """Return a gzipped tar archive whose bytes depend on the files alone."""
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as stream, tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    lines = [json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows]
    path.write_text("".join(line + "\n" for line in lines), "utf-8")


def _write_csv(path: Path, rows: list[list[float]]) -> None:
    path.write_text("".join(",".join(map(repr, row)) + "\n" for row in rows))


if __name__ == "__main__":
    build(DEMO)
    print(f"wrote {DEMO}")
