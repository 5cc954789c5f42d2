"""Models of scikit-learn, converted and run as skl2onnx's documentation shows."""

import json
import warnings

import numpy as np
import onnxruntime as rt
from onnxruntime.capi.onnxruntime_pybind11_state import Fail as OrtFail
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from skl2onnx import convert_sklearn, to_onnx, update_registered_converter  # noqa: F401
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import GradientBoostingRegressor, IsolationForest, RandomForestClassifier, VotingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC

warnings.simplefilter("ignore")
iris, sugar = load_iris(return_X_y=True), load_diabetes(return_X_y=True)
flowers = iris[0].astype(np.float32)
results = []


def run(model, x, **options):
    """The outputs of a converted model, shortened."""
    session = rt.InferenceSession(to_onnx(model, x[:1], **options).SerializeToString(), providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: x[:40:4]})
    return [output.tolist() if isinstance(output, np.ndarray) else [list(row.values()) for row in output] for output in outputs]


for model in (
    LogisticRegression(max_iter=500),
    RandomForestClassifier(20, random_state=0),
    KNeighborsClassifier(3),
    MLPClassifier((8,), random_state=0, max_iter=300),
    SVC(probability=True, random_state=0),
    Pipeline([("scale", StandardScaler()), ("classify", LogisticRegression())]),
):
    results.append(run(model.fit(*iris), flowers))
results.append(run(LogisticRegression(max_iter=500).fit(*iris), flowers, options={"zipmap": False}))
results.append(run(KMeans(3, random_state=0, n_init=1).fit(flowers), flowers))
results.append(run(IsolationForest(random_state=0).fit(flowers), flowers, target_opset={"": 17, "ai.onnx.ml": 3})[:1])
numbers = sugar[0].astype(np.float32)
votes = VotingRegressor([("gb", GradientBoostingRegressor(random_state=0)), ("lr", LinearRegression())])
results.append(run(votes.fit(*sugar), numbers))
results.append(run(GaussianProcessRegressor(RBF(), alpha=10.0).fit(*sugar), sugar[0]))

# "Convert a pipeline with ColumnTransformer": columns of numbers and of texts, each an input of its own
table = {"age": np.array([[22.0], [38], [np.nan], [35]], np.float32), "sex": np.array([["male"], ["female"], ["female"], ["male"]])}
columns = ColumnTransformer(
    [
        ("numbers", Pipeline([("fill", SimpleImputer(strategy="median")), ("scale", StandardScaler())]), [0]),
        ("texts", OneHotEncoder(handle_unknown="ignore"), [1]),
    ]
)
rows = np.array([[a[0], s[0]] for a, s in zip(table["age"], table["sex"], strict=True)], dtype=object)
pipeline = Pipeline([("columns", columns), ("classify", LogisticRegression())]).fit(rows, [0, 1, 1, 0])
inputs = [("age", FloatTensorType([None, 1])), ("sex", StringTensorType([None, 1]))]
session = rt.InferenceSession(
    convert_sklearn(pipeline, "titanic", inputs).SerializeToString(), providers=rt.get_available_providers()
)
labels, odds = session.run(None, table)
results.append([labels.tolist(), [list(row.values()) for row in odds]])

# "Common errors with onnxruntime": which exception is raised for what
errors = []
model = rt.InferenceSession(
    to_onnx(LogisticRegression().fit(*iris), flowers[:1]).SerializeToString(), providers=["CPUExecutionProvider"]
)
name = model.get_inputs()[0].name
for names, feed in (
    (["label"], {name: flowers.astype(np.float64)}),
    (["nothing"], {name: flowers}),
    (None, {"other": flowers}),
    (["label"], {name: flowers[:, :2]}),
):
    try:
        model.run(names, feed)
    except (InvalidArgument, OrtFail, RuntimeError, ValueError) as error:
        errors.append(type(error).__name__)
results.append(errors)
assert Int64TensorType
print(json.dumps(results))
