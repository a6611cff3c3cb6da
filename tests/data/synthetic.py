"""Small made-up data sets, as Parquet files with the hub's columns."""

import csv
import random
from pathlib import Path

import datasets
import numpy as np
from PIL import Image

GOOD = ["fine", "bright", "warm", "lovely", "clever", "moving"]
BAD = ["dull", "cold", "poor", "stale", "empty", "weak"]
FILL = [
    *("the", "a", "film", "plot", "scene", "actor", "with", "and", "of", "that", "some", "very"),
    *("one", ",", "."),
]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
GLUE = {  # columns of text, classes (0: a number from 0 to 5)
    "cola": (["sentence"], 2), "sst2": (["sentence"], 2), "mrpc": (["sentence1", "sentence2"], 2),
    "stsb": (["sentence1", "sentence2"], 0), "qqp": (["question1", "question2"], 2),
    "mnli": (["premise", "hypothesis"], 3), "qnli": (["question", "sentence"], 2),
    "rte": (["sentence1", "sentence2"], 2), "wnli": (["sentence1", "sentence2"], 2),
}  # fmt: skip
PEOPLE = ["anna", "boris", "chen", "dora", "emil", "fatima"]
PLACES = ["oslo", "quito", "perth", "cairo", "turin", "osaka"]


def sentence(draw: random.Random, words: list[str]) -> str:
    """Filling words with one that tells."""
    text = [draw.choice(FILL) for _ in range(draw.randint(2, 12))]
    text.insert(draw.randrange(len(text) + 1), draw.choice(words))
    return " ".join(text)


def write(rows: list[dict], path: Path, features: datasets.Features | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(rows, features=features).to_parquet(path)


def write_glue(root: Path, task: str, train: int = 80, dev: int = 24) -> None:
    """The label is told by the first text's word: 0 by a bad one, 1 by a good one, 2 by none."""
    columns, classes = GLUE[task]
    text = {column: datasets.Value("string") for column in columns}
    label = (
        datasets.ClassLabel(names=[f"c{i}" for i in range(classes)])
        if classes
        else datasets.Value("float32")
    )
    features = datasets.Features({**text, "label": label, "idx": datasets.Value("int32")})
    splits = {"train": train, "validation": dev}
    if task == "mnli":
        splits = {"train": train, "validation_matched": dev, "validation_mismatched": dev // 2}
    for split, size in splits.items():
        draw, rows = random.Random(f"{task}/{split}"), []
        for index in range(size):
            kind = index % (classes or 2)
            words = [BAD, GOOD, FILL][kind]
            row = {column: sentence(draw, words) for column in columns}
            rows.append({**row, "label": kind if classes else 4.0 * kind + 0.5, "idx": index})
        write(rows, root / "glue" / task / f"{split}.parquet", features)


def write_squad(root: Path, train: int = 40, dev: int = 12) -> None:
    """Paragraphs of who went where; some are longer than a window."""
    for split, size in (("train", train), ("validation", dev)):
        draw, rows = random.Random(split), []
        for index in range(size):
            pairs = list(zip(draw.sample(PEOPLE, 3), draw.sample(PLACES, 3), strict=True))
            filling = " ".join(draw.choice(FILL) for _ in range(draw.choice([3, 60])))
            context = " ".join(f"{who.title()} went to {where.title()}." for who, where in pairs)
            context = f"{filling} {context} {filling}"
            who, where = draw.choice(pairs)
            start = context.index(where.title())
            answers = {"text": [where.title()], "answer_start": [start]}
            if split == "validation":
                longer = f"to {where.title()}"
                answers = {"text": [where.title(), longer], "answer_start": [start, start - 3]}
            rows.append({
                "id": f"{split}{index}", "title": f"article{index // 4}", "context": context,
                "question": f" Where did {who.title()} go?", "answers": answers,
            })  # fmt: skip
        write(rows, root / "squad" / f"{split}.parquet")


def pictures(size: int, classes: int, pixels: int, seed: int) -> list[tuple[Image.Image, int]]:
    """A colour a class, with noise."""
    draw = np.random.default_rng(seed)
    colours = np.random.default_rng(0).integers(40, 215, (classes, 1, 1, 3))
    found = []
    for index in range(size):
        noise = draw.integers(-40, 41, (pixels, pixels, 3))
        image = np.clip(colours[index % classes] + noise, 0, 255).astype(np.uint8)
        found.append((Image.fromarray(image), index % classes))
    return found


def write_cifar(root: Path, name: str, train: int = 80, test: int = 20) -> None:
    classes = 10 if name == "cifar10" else 100
    names = CIFAR10 if classes == 10 else [f"thing_{index}" for index in range(100)]
    column = "label" if classes == 10 else "fine_label"
    labels = datasets.ClassLabel(names=names)
    features = datasets.Features({"img": datasets.Image(), column: labels})
    for split, size in (("train", train), ("test", test)):
        rows = [{"img": i, column: c} for i, c in pictures(size, classes, 32, seed=len(split))]
        write(rows, root / name / f"{split}.parquet", features)


def write_image_folder(root: Path, classes: int = 3, train: int = 24, dev: int = 6) -> None:
    """ImageNet as folders: images of several sizes, a folder a class, and the list of names."""
    for split, size in (("train", train), ("val", dev)):
        for index, (image, label) in enumerate(pictures(size, classes, 40, seed=size)):
            folder = root / "imagenet" / split / f"n0000000{label}"
            folder.mkdir(parents=True, exist_ok=True)
            image.resize((40 + index, 50)).save(folder / f"{index}.JPEG")
    lines = [f"n0000000{label} thing {label}, synonym\n" for label in range(classes)]
    (root / "imagenet" / "LOC_synset_mapping.txt").write_text("".join(lines))


def write_own_text(path: Path, size: int = 80) -> None:
    """A table as anyone has one: the label, a word, is told by a word of the text."""
    draw = random.Random("own")
    pairs = [(sentence(draw, [BAD, GOOD][i % 2]), ["bad", "good"][i % 2]) for i in range(size)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("review", "opinion"), *pairs])


def write_for(task: str, root: Path) -> None:
    """The files of a task of `conf/task`, if it reads any."""
    group, _, name = task.rpartition("/")
    if group == "glue":
        write_glue(root, name)
    elif name == "squad":
        write_squad(root)
    elif name in ("cifar10", "cifar100"):
        write_cifar(root, name)
    elif name == "imagenet":
        write_image_folder(root)
    elif name == "text":
        write_own_text(root / "own.csv")
    elif name == "images":
        write_image_folder(root)
