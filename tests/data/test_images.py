"""Images in memory and on disk, and CLIP's prompts."""

import pytest
import torch

from seven_bench.data.clip import ClipData
from seven_bench.data.images import ImageData, Normalize
from seven_bench.errors import ConfigError
from tests.data.synthetic import CIFAR10, write_cifar, write_image_folder

PLAIN = {"size": 32, "mean": [0, 0, 0], "std": [1, 1, 1]}


def cifar(root, kind=ImageData, name="cifar10", **options):
    write_cifar(root, name)
    files = {split: root / name / f"{split}.parquet" for split in ("train", "test")}
    columns = {"image_column": "img", "label_column": "label"}
    data = kind(seed=0, batch_size=8, files=files, **{**columns, "image": PLAIN, **options})
    data.setup()
    return data


def imagenet(root, kind=ImageData, **options):
    write_image_folder(root)
    files = {"train": root / "imagenet" / "train", "validation": root / "imagenet" / "val"}
    image = {**PLAIN, "size": 16}
    data = kind(
        seed=0, batch_size=8, files=files, image=image, lazy=True, scored="validation",
        image_column="image", label_column="label", **options,
    )  # fmt: skip
    data.setup()
    return data


def test_pixels_are_scaled_and_normalized():
    pixels = torch.tensor([0, 255, 51], dtype=torch.uint8).view(1, 3, 1, 1)
    normalize = Normalize(1, mean=[0.5, 0.5, 0.2], std=[0.5, 0.25, 1])
    assert normalize(pixels).reshape(-1).tolist() == pytest.approx([-1, 2, 0])


def test_images_are_brought_to_the_models_size(tmp_path):
    data = cifar(tmp_path, image={**PLAIN, "size": 48})
    batch = next(iter(data.train_dataloader()))
    assert batch["pixel_values"].shape == (8, 3, 48, 48)
    assert batch["pixel_values"].min() >= 0 and batch["pixel_values"].max() <= 1


def test_a_tenth_of_train_is_validation(tmp_path):
    data = cifar(tmp_path)
    assert [data.size(split) for split in ("train", "validation", "test")] == [72, 8, 20]
    assert data.class_names == CIFAR10
    assert data.majority() == 0.1


def test_a_subset_is_the_beginning_of_the_same_order(tmp_path):
    whole, few = cifar(tmp_path / "a"), cifar(tmp_path / "b", train_examples=10)
    assert few.size("train") == 10
    some = range(10)
    assert torch.equal(few.splits["train"][some]["labels"], whole.splits["train"][some]["labels"])
    same = [d.splits["validation"].columns["labels"] for d in (whole, few)]
    assert torch.equal(*same)


def test_a_folder_of_images_is_read_as_it_is_needed(tmp_path):
    data = imagenet(tmp_path)
    assert [data.size(split) for split in ("train", "validation", "test")] == [22, 2, 6]
    batch = next(iter(data.train_dataloader()))
    assert batch["pixel_values"].shape == (8, 3, 16, 16)
    assert data.splits["test"].columns["labels"].tolist() == [0, 0, 1, 1, 2, 2]
    assert data.class_names[1] == "thing 1, synonym"


def test_images_of_several_sizes_in_memory_are_refused_with_the_way_out(tmp_path):
    write_image_folder(tmp_path)
    import datasets

    folder = str(tmp_path / "imagenet" / "train")
    rows = datasets.load_dataset("imagefolder", data_dir=folder, split="train")
    for split in ("train", "test"):
        rows.to_parquet(tmp_path / f"{split}.parquet")
    data = ImageData(
        seed=0, batch_size=2, image=PLAIN, image_column="image", label_column="label",
        files={split: tmp_path / f"{split}.parquet" for split in ("train", "test")},
    )  # fmt: skip
    with pytest.raises(ConfigError, match="lazy=true"):
        data.setup()


def test_an_empty_folder_is_named(tmp_path):
    (tmp_path / "train").mkdir()
    data = ImageData(
        seed=0, batch_size=2, image=PLAIN, lazy=True, files={"train": tmp_path / "train"}
    )
    with pytest.raises(ConfigError, match="neither Parquet"):
        data.setup()


def test_every_batch_has_the_prompts_of_all_classes(tmp_path):
    data = cifar(
        tmp_path, ClipData, tokenizer="data", vocabulary=50, classes=10, prompt="a photo of a {}."
    )
    batch = next(iter(data.train_dataloader()))
    assert batch["pixel_values"].shape[0] == 8
    prompts = batch["prompts"]["input_ids"]
    assert prompts.shape == (10, 8)  # [CLS] a photo of a ship . [SEP]
    assert (prompts[:, [0, -1]] == torch.tensor([2, 3])).all()
    assert len({tuple(row) for row in prompts.tolist()}) == 10


def test_class_names_are_written_as_a_reader_would(tmp_path):
    data = imagenet(tmp_path, ClipData, tokenizer="data", vocabulary=50, classes=3, prompt="a {}")
    mask = data.splits["test"][[0]]["prompts"]["attention_mask"]
    assert mask.shape == (3, 5)  # [CLS] a thing 0 [SEP]: the first of the synonyms


def test_a_class_without_a_name_is_said(tmp_path):
    with pytest.raises(ConfigError, match="10 class names in the data, 11 wanted"):
        cifar(tmp_path, ClipData, tokenizer="data", vocabulary=50, classes=11, prompt="{}")
