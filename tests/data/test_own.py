"""Data of one's own: what is found in it, where it is divided, what is refused, what a run is."""

import hashlib
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from seven_bench.data.by_content import divided, place
from seven_bench.data.making import make_data
from seven_bench.data.own_images import Files
from seven_bench.errors import ConfigError
from seven_bench.results.collect import collect
from seven_bench.running.dry_run import print_plan
from seven_bench.running.run import run
from seven_bench.settings.checks import stored
from seven_bench.settings.identity import identify
from seven_bench.settings.tables import read_table

TEXT = ("task=text", "model=tiny_bert", "data.text=review", "data.label=stars", "logger=none")
IMAGES = ("task=images", "model=tiny_vit", "logger=none")
WORDS = [(f"a fine film, of {i}" if i % 2 else f"dull no {i}", "no yes"[3 * (i % 2) :][:3].strip())
         for i in range(60)]  # fmt: skip


def write_csv(path, rows=WORDS, header="review,stars", delimiter=","):
    lines = [header, *(delimiter.join(f'"{cell}"' for cell in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_images(root, count=40, classes=("cat", "dog"), first=0):
    for index in range(first, first + count):
        pixels = np.random.default_rng(index).integers(0, 255, (20 + index % 3, 24, 3))
        folder = root / classes[index % len(classes)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root


def loaded(settings):
    data = make_data(settings, 4)
    data.setup()
    return data


@pytest.fixture
def text(make_config, tmp_path):
    """Settings of texts in a file of any format."""

    def make(path, *further):
        return make_config(*TEXT, f"data.train={path}", *further)

    return make


def test_a_hash_of_the_content_divides(tmp_path):
    keys = [f"text {i}".encode() for i in range(300)]
    parts = divided(keys, given=())
    assert sorted(row for rows in parts.values() for row in rows) == list(range(300))
    by_hand = int(hashlib.sha256(b"0\0text 7").hexdigest()[:16], 16) / 2**64
    assert place(b"text 7") == by_hand
    part = "test" if by_hand < 0.2 else "validation" if by_hand < 0.3 else "train"
    assert 7 in parts[part]
    assert 40 < len(parts["test"]) < 80 and 15 < len(parts["validation"]) < 45
    more = divided([b"another", *keys], given=())  # which moves no other
    for name, rows in parts.items():
        assert {row + 1 for row in rows} == {row for row in more[name] if row}
    assert set(divided(keys, given=("test",))["validation"]) == set(parts["validation"])
    other = divided(keys, given=(), seed=1)  # holds others out, and scores the same
    assert other["test"] == parts["test"] and other["validation"] != parts["validation"]
    assert not {*other["test"]} & {*other["validation"]}
    few = divided(keys, given=(), most=20)
    assert len(few["train"]) == 20 and set(few["train"]) < set(parts["train"])
    assert few["test"] == parts["test"]
    with pytest.raises(ConfigError, match=r"none of 1 examples is left for .*: give data\."):
        divided([b"one"], given=())


def test_words_as_labels_become_classes_by_the_alphabet(text, tmp_path):
    settings = text(write_csv(tmp_path / "reviews.csv"))
    assert (settings.task.classes, settings.task.labels) == (2, ("no", "yes"))
    assert (settings.task.name, settings.task.name_from) == ("reviews", "file")
    assert settings.model.build.arguments["classes"] == 2
    assert settings.task.module.arguments["metrics"] == ["accuracy", "f1", "matthews"]
    data = loaded(settings)
    assert sum(data.size(part) for part in ("train", "validation", "test")) == 60
    where = divided([review.encode() for review, _ in WORDS], given=())
    for part in where:
        expected = [int(WORDS[row][1] == "yes") for row in where[part]]
        assert data.splits[part].columns["labels"].tolist() == expected


def test_numbers_as_labels_are_sorted_by_size(text, tmp_path):
    rows = [(f"text {i}", str([10, 9, 1][i % 3])) for i in range(60)]
    assert text(write_csv(tmp_path / "a.csv", rows)).task.labels == ("1", "9", "10")


def test_every_format_gives_the_same_examples(text, tmp_path):
    semicolons = write_csv(tmp_path / "b.csv", header="review;stars", delimiter=";")
    tabs = write_csv(tmp_path / "c.tsv", header="review\tstars", delimiter="\t")
    marked = tmp_path / "d.csv"
    marked.write_bytes(b"\xef\xbb\xbf" + semicolons.read_bytes())
    rows = [{"review": review, "stars": stars} for review, stars in WORDS]
    lines, listed = tmp_path / "e.jsonl", tmp_path / "f.json"
    lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    listed.write_text(json.dumps(rows))
    parquet, named = tmp_path / "g.parquet", tmp_path / "h.parquet"
    datasets.Dataset.from_list(rows).to_parquet(parquet)
    kinds = {"review": datasets.Value("string"), "stars": datasets.ClassLabel(names=["yes", "no"])}
    ids = [{**row, "stars": int(row["stars"] == "no")} for row in rows]
    datasets.Dataset.from_list(ids, features=datasets.Features(kinds)).to_parquet(named)
    first = loaded(text(write_csv(tmp_path / "a.csv"))).splits
    for path in (semicolons, tabs, marked, lines, listed, parquet, named):
        settings = text(path)
        assert settings.task.labels == ("no", "yes"), path
        for part, split in loaded(settings).splits.items():
            assert torch.equal(split.tokens["ids"], first[part].tokens["ids"]), path
            assert torch.equal(split.columns["labels"], first[part].columns["labels"]), path


def test_what_looks_like_nothing_in_a_csv_is_a_text(text, tmp_path):
    """Readers that guess make of "NA" a hole, and of "1" a number."""
    rows = [*WORDS[:-3], ("NA", "yes"), ("null", "no"), ("1", "yes")]
    path = write_csv(tmp_path / "a.csv", rows)
    assert read_table(path).column("review", "data.text")[-3:] == ["NA", "null", "1"]
    loaded(text(path))


def test_splits_that_are_given_stay_whole(text, tmp_path):
    train, dev = write_csv(tmp_path / "train.csv"), write_csv(tmp_path / "dev.csv", WORDS[:10])
    settings = text(train, f"data.validation={dev}", f"data.test={dev}")
    data = loaded(settings)
    assert [data.size(part) for part in ("train", "validation", "test")] == [60, 10, 10]
    assert settings.task.name == tmp_path.name  # "train" says nothing


def test_pairs_and_numbers_to_predict(make_config, tmp_path):
    rows = [(f"one {i}", f"other {i}", str(i / 7)) for i in range(60)]
    path = write_csv(tmp_path / "alike.csv", rows, "a,b,score")
    given = ("task=text", "model=tiny_bert", "logger=none", "data.label=score")
    settings = make_config(*given, f"data.train={path}", "data.text=[a,b]", "data.regression=true")
    assert (settings.task.classes, settings.task.labels) == (1, None)
    assert settings.task.metric.name == "pearson"
    data = loaded(settings)
    assert data.splits["train"].columns["labels"].dtype == torch.float32
    assert {1} <= set(data.splits["train"].tokens["segments"].tolist())


@pytest.mark.parametrize(
    ("rows", "further", "words"),
    [
        (WORDS, ["data.text=revew"], r"data\.text=revew: \S+a\.csv has no such column; it has "
         r"review, stars; did you mean review\?"),
        (WORDS, ["data.label=grade"], r"data\.label=grade: .* it has review, stars"),
        ([*WORDS, ("  ", "yes")], [], r"a\.csv: row 60 \(the first is 0\) has an empty review"),
        ([*WORDS, ("fine", " ")], [], r"a\.csv: row 60 .* has stars= : allowed is a label"),
        ([*WORDS, ("fine", "2")], ["data.regression=true"], "row 0 .* has stars=no: allowed is"),
        ([(r, "yes") for r, _ in WORDS], [], "has one label, yes: allowed are two or more"),
        (WORDS, ["data.label=review", "data.text=stars"], "60 labels in 60 rows: is it another"),
        (WORDS, ["data.image=x"], "task=text has no images"),
        (WORDS, ["data.text=[a,b,c]"], "one column of texts, or two"),
        ([*WORDS, ("a", "b", "c")], [], r"cannot read \S+a\.csv: .*Row #62: Expected 2 columns"),
        (WORDS, ["task.name=digits"], "task.name=digits: that is a task of its own"),
        (WORDS, ["data.test=nowhere.csv"], r"nowhere\.csv: there is no such file"),
        ([], [], r"a\.csv: it has no rows"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_texts_is_one_line(text, tmp_path, rows, further, words):
    with pytest.raises(ConfigError, match=words):
        text(write_csv(tmp_path / "a.csv", rows), *further)


def test_a_label_that_training_has_not_is_named(text, tmp_path):
    test = write_csv(tmp_path / "b.csv", [("fine", "yes"), ("odd", "maybe")])
    with pytest.raises(ConfigError, match=r"b\.csv: row 1 .*stars=maybe: no label of the training"):
        text(write_csv(tmp_path / "a.csv"), f"data.test={test}")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.xlsx", b"x", "no table that is known; allowed are .csv, .tsv"),
        ("a.csv", b"", r"a\.csv: it is empty"),
        ("a.csv", b"review,stars\ncaf\xe9,yes\n", "must be UTF-8"),
        ("a.csv", b"review,review\na,b\n", "two columns are called review"),
        ("a.jsonl", b'{"review": 1}\n{"rev', r"a\.jsonl: line 2 is no JSON"),
        ("a.json", b"[1]", "row 0 is no object"),
        ("a.parquet", b"PAR1", "cannot read"),
    ],
)
def test_a_file_that_is_no_table_is_one_line(text, tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        text(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["task=text", "model=tiny_bert"], r"data\.train is missing: .*data\.train=FILE\.csv"),
        (["task=images", "model=tiny_vit"], "data_root is missing: task=images learns from"),
        (["task=digits", "data.train=a.csv"], r"data\.train: task=digits has its own data"),
        (["task=images", "model=tiny_vit", "data_root=nowhere"], "there is no such folder"),
    ],
)
def test_what_is_not_given_or_too_much_is_said(make_config, given, words):
    with pytest.raises(ConfigError, match=words):
        make_config(*given, "logger=none")


def test_a_run_is_known_by_content_not_by_name(text, tmp_path):
    one, other = write_csv(tmp_path / "one.csv"), write_csv(tmp_path / "other.csv")
    changed = write_csv(tmp_path / "changed.csv", WORDS[1:])
    ids = [identify(text(path)).run_id for path in (one, other, changed)]
    assert ids[0] == ids[1] != ids[2] and ids[0].startswith("text-")
    named = [identify(text(path, "task.name=films")).run_id for path in (one, other)]
    assert named[0] == named[1] and named[0].startswith("films/")
    pairs = identify(text(one, "data.text=stars", "data.label=stars")).run_id
    assert pairs != ids[0]


def test_a_folder_a_class_is_divided_by_the_images(make_config, tmp_path):
    root = write_images(tmp_path / "pets")
    (root / ".hidden").mkdir()
    (root / "cat" / ".DS_Store").write_bytes(b"x")
    settings = make_config(*IMAGES, f"data_root={root}")
    assert (settings.task.labels, settings.task.name) == (("cat", "dog"), "pets")
    assert (settings.task.image.size, settings.task.image.patch) == (32, 4)
    before = identify(settings).run_id
    data = loaded(settings)
    keys = [hashlib.sha256(f.read_bytes()).hexdigest().encode() for f in root.glob("*/*.png")]
    where = divided(keys, given=())
    assert {part: data.size(part) for part in where} == {p: len(where[p]) for p in where}
    first = next(iter(data.splits["test"][[0]].values()))
    (root / "cat" / "0.png").rename(root / "cat" / "zz.png")  # neither order nor identity
    assert identify(make_config(*IMAGES, f"data_root={root}")).run_id == before
    again = loaded(make_config(*IMAGES, f"data_root={root}"))
    assert torch.equal(first, next(iter(again.splits["test"][[0]].values())))
    (root / "cat").rename(root / "lion")  # a class is what its folder is called
    assert identify(make_config(*IMAGES, f"data_root={root}")).run_id != before


def test_splits_below_a_folder_and_parquet(make_config, tmp_path):
    root = tmp_path / "sets"
    for first, (split, count) in enumerate((("train", 30), ("val", 6), ("test", 4))):
        write_images(root / split, count, first=100 * first)
    data = loaded(make_config(*IMAGES, f"data_root={root}"))
    assert [data.size(part) for part in ("train", "validation", "test")] == [30, 6, 4]
    rows = [
        {"image": {"bytes": file.read_bytes(), "path": None}, "label": file.parent.name}
        for file in sorted((root / "train").glob("*/*.png"))
    ]
    (tmp_path / "table").mkdir()
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    table = datasets.Dataset.from_list(rows, features=kinds)
    table.to_parquet(tmp_path / "table" / "train.parquet")
    settings = make_config(*IMAGES, f"data_root={tmp_path / 'table'}")
    assert settings.task.labels == ("cat", "dog")
    data = loaded(settings)
    assert sum(data.size(part) for part in ("train", "validation", "test")) == 30
    with pytest.raises(ConfigError, match=r"data\.image=img: .* it has image, label"):
        make_config(*IMAGES, f"data_root={tmp_path / 'table'}", "data.image=img")


def test_an_image_that_cannot_be_read_is_found_by_a_dry_run(make_config, tmp_path, monkeypatch):
    root = write_images(tmp_path / "pets")
    whole = (root / "dog" / "1.png").read_bytes()
    (root / "dog" / "1.png").write_bytes(whole[: len(whole) // 2])  # its head is there
    settings = make_config(*IMAGES, f"data_root={root}", "dry_run=true")
    with pytest.raises(ConfigError, match=r"pets/dog/1\.png: no image that can be read"):
        print_plan([settings])
    (root / "dog" / "1.png").write_text("none")
    with pytest.raises(ConfigError, match=r"pets/dog/1\.png: no image that can be read"):
        make_config(*IMAGES, f"data_root={root}")


def test_images_too_many_to_hold_are_decoded_as_they_are_read(make_config, tmp_path, monkeypatch):
    settings = make_config(*IMAGES, f"data_root={write_images(tmp_path / 'pets')}")
    held = loaded(settings).splits["train"]
    monkeypatch.setattr("seven_bench.data.own_images.IN_MEMORY", 0)
    monkeypatch.setattr("seven_bench.data.task_data._LOADED", {})
    read = loaded(settings).splits["train"]
    assert type(held) is not type(read)
    for name, value in held[[0, 3]].items():
        assert torch.equal(value, read[[0, 3]][name])


def test_files_of_different_columns_are_no_table(tmp_path: Path):
    for name, column in (("a", "one"), ("b", "two")):
        datasets.Dataset.from_dict({column: [1]}).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ConfigError, match=r"b\.parquet: its columns are not those of \S+a\.parq"):
        read_table(tmp_path)


def test_a_run_of_ones_own_data_says_its_labels_and_is_found_under_another_name(text, tmp_path):
    short = ("start=init", "trainer.max_epochs=1", "pruner=magnitude", "progress=false")
    path = write_csv(tmp_path / "reviews.csv")
    settings = text(path, *short)
    record = run(settings)
    assert (record["task"], record["labels"]) == ("reviews", ["no", "yes"])
    where = divided([review.encode() for review, _ in WORDS], given=())
    assert record["metrics"]["test_examples"] == len(where["test"])
    folder = identify(settings).folder(settings.output_root)
    assert stored(folder) == settings
    assert run(text(path.rename(tmp_path / "films.csv"), *short)) == record
    assert list(collect([tmp_path]).records["task"]) == ["reviews"]


@pytest.mark.parametrize("kind", ["16 bits", "turned", "transparent", "palette", "plain"])
def test_a_picture_is_what_one_sees(tmp_path, kind):
    """A picture of two halves, dark above and bright below, in the forms that files have."""
    seen = np.zeros((8, 6, 3), np.uint8)
    seen[:4], seen[4:] = 40, 200
    path = tmp_path / "picture.png"
    plain, options = Image.fromarray(seen), {}
    match kind:
        case "16 bits":
            plain = Image.fromarray(seen[..., 0].astype(np.uint16) * 256 + 7)
        case "turned":  # a quarter to the right, which its camera says is to be undone
            plain, path = plain.transpose(Image.Transpose.ROTATE_270), tmp_path / "picture.tif"
            options["exif"] = Image.Exif()
            options["exif"][0x0112] = 8
        case "transparent":  # the upper half is hidden: it shows what is beneath
            plain = plain.convert("RGBA")
            plain.putalpha(Image.fromarray(np.where(seen[..., 0] == 40, 0, 255).astype(np.uint8)))
            seen[:4] = 255
        case "palette":
            plain = plain.quantize(2)
    plain.save(path, **options)
    (found,) = Files([path], [str(path)])
    assert found.mode == "RGB" and np.array_equal(np.asarray(found), seen)


def test_what_is_tested_on_and_trained_on_is_said(make_config, text, tmp_path, caplog):
    train, test = write_csv(tmp_path / "a.csv"), write_csv(tmp_path / "b.csv", WORDS[:3] * 2)
    loaded(text(train, f"data.test={test}"))
    assert "6 of 6 examples of data.test are in the training data too" in caplog.text
    write_images(tmp_path / "images/train", 30)
    write_images(tmp_path / "images/test", 4, first=28)  # two of these are trained on
    caplog.clear()
    loaded(make_config(*IMAGES, f"data_root={tmp_path / 'images'}"))
    assert "2 of 4 examples of data.test are in the training data too" in caplog.text
