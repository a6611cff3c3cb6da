"""Settings as a type: every key has a role, and they go to a file and back."""

from seven_bench.settings.model import Settings
from seven_bench.settings.node import Node, role_of


def leaves(kind):
    """All keys of settings by their dotted names, with whether each has a role."""
    for name, field in kind.model_fields.items():
        role = role_of(field)
        below = [part for part in (field.annotation, *_parts(field.annotation)) if _is_node(part)]
        if role is None and below:
            for key, found in leaves(below[0]):
                yield f"{name}.{key}", found
        else:
            yield name, role


def _parts(annotation):
    return getattr(annotation, "__args__", ())


def _is_node(part):
    return isinstance(part, type) and issubclass(part, Node)


def test_every_key_says_what_it_decides():
    roles = dict(leaves(Settings))
    assert len(roles) > 80
    assert [key for key, role in roles.items() if role is None] == []


def test_settings_go_to_a_file_and_back(make_config):
    for overrides in ("pruner=lth", "pruner=wanda finetune=lora", "task=glue/mnli model=tiny_bert"):
        settings = make_config(*overrides.split(), "logger=none")
        assert settings.changed() == settings
