"""Model folders as hubs have them: ``config.json`` beside weights, maybe in shards.

``PyTorchModelHubMixin`` writes its class's arguments into ``config.json``; ``PreTrainedModel``
writes them among keys of its own. Code beside them is not looked at.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s4edge.errors import S4EdgeError
from s4edge.foreign import check_file, parse_json, read_text

CONFIG = "config.json"
# Weights of a folder, the first that is there.
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_INDEX = ".index.json"
# What a hub's own library writes: about the files, the training, labels, tokens and generation.
_LIBRARY_KEYS = frozenset(
    (
        "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "auto_map",
        "_name_or_path", "name_or_path", "_commit_hash", "_attn_implementation_autoset",
        "library_name", "tags", "license", "pipeline_tag", "repo_url", "docs_url",
        "return_dict", "use_return_dict", "output_hidden_states", "output_attentions",
        "torchscript", "use_bfloat16", "tf_legacy_loss", "use_cache", "gradient_checkpointing",
        "initializer_range", "id2label", "label2id", "finetuning_task", "problem_type",
        "task_specific_params", "tokenizer_class", "prefix", "bos_token_id", "pad_token_id",
        "eos_token_id", "sep_token_id", "cls_token_id", "mask_token_id", "unk_token_id",
        "decoder_start_token_id", "max_length", "min_length", "do_sample", "early_stopping",
        "num_beams", "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p",
        "typical_p", "repetition_penalty", "length_penalty", "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size", "bad_words_ids", "num_return_sequences", "output_scores",
        "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id",
        "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
        "begin_suppress_tokens",
    )
)  # fmt: skip
# The same with the one value that changes nothing.
_LIBRARY_VALUES: dict[str, Any] = {
    "pruned_heads": {},
    "tie_word_embeddings": False,
    "is_encoder_decoder": False,
    "is_decoder": False,
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "tie_encoder_decoder": False,
    "chunk_size_feed_forward": 0,
    "quantization_config": None,
}
# The library's words for what upstream calls otherwise.
_SYNONYMS = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layers",
    "num_layers": "n_layers",
    "n_layer": "n_layers",
    "state_size": "d_state",
    "vocab_size": "d_input",
    "num_labels": "d_output",
    "num_classes": "d_output",
    "n_classes": "d_output",
    "output_dim": "d_output",
    "input_dim": "d_input",
    "dropout_rate": "dropout",
    "hidden_dropout_prob": "dropout",
}


@dataclass(frozen=True)
class HubConfiguration:
    """What ``config.json`` says.

    Attributes:
        options: of the model's class, under its upstream's names.
        notes: what was not looked at, for people.
    """

    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_weights(path: Path) -> Path:
    """The weights in a folder; a file is itself.

    Raises:
        S4EdgeError: there are none.
    """
    if not os.path.isdir(path):
        return path
    for name in _WEIGHTS:
        if (path / name).is_file():
            return path / name
    if (path / "adapter_config.json").exists():
        raise S4EdgeError(
            f"{path} holds an adapter alone, no model: merge it into its model (merge_and_unload), "
            "save that, and name its folder"
        )
    raise S4EdgeError(
        f"{path} is a folder without {', '.join(_WEIGHTS)}; name the checkpoint file in it"
    )


def is_index(path: Path) -> bool:
    """Whether a file tells the shards of a model."""
    return path.name.endswith(_INDEX)


def read_shards(path: Path, read: Callable[[Path], Any]) -> dict[str, Any]:
    """The state dict of an index file (``model.safetensors.index.json``).

    Args:
        path: of the index.
        read: takes a shard to what is in it.

    Raises:
        S4EdgeError: it is no index, names files elsewhere, or a shard or a tensor is missing.
    """
    owners = _json_object(path, "the index").get("weight_map")
    if not isinstance(owners, dict) or not all(isinstance(name, str) for name in owners.values()):
        owners = None
    if not owners:
        raise S4EdgeError(f"{path} is no index of shards: it has no weight_map; fetch it again")
    tensors: dict[str, Any] = {}
    for shard in sorted(set(owners.values())):
        if shard != Path(shard).name or shard in ("", ".", ".."):
            raise S4EdgeError(
                f"{path} names {shard!r} as a shard, which is no file beside it; refused"
            )
        if not os.path.isfile(path.parent / shard):
            raise S4EdgeError(f"{path} names {shard}, which is not beside it; fetch that, too")
        content = read(path.parent / shard)
        tensors |= content if isinstance(content, dict) else {}
    missing = sorted(name for name in owners if name not in tensors)
    if missing:
        raise S4EdgeError(
            f"{path} lists the tensor {missing[0]}, which {owners[missing[0]]} does not hold; "
            "fetch the shards again"
        )
    return {name: tensors[name] for name in owners}


def read_configuration(weights: Path) -> HubConfiguration | None:
    """What ``config.json`` beside the weights says; None if there is none.

    Raises:
        S4EdgeError: it is no JSON object, or what it says changes the model in a way that
            s4edge does not know.
    """
    path = weights.parent / CONFIG
    if not (weights.name in _WEIGHTS or weights.suffix in (".safetensors", ".bin")):
        return None
    if not os.path.isfile(path):
        return None
    content = _json_object(path, "the configuration")
    ignored = sorted(key for key in content if key in _LIBRARY_KEYS)
    for key, harmless in _LIBRARY_VALUES.items():
        if key in content:
            if content[key] != harmless:
                raise S4EdgeError(
                    f"{path} says {key}={json.dumps(content[key])}, which s4edge does not read; "
                    "if it changes nothing in this model, take it out"
                )
            ignored.append(key)
    options = {key: value for key, value in content.items() if key not in ignored}
    notes = []
    if ignored:
        notes.append(f"{CONFIG}: without meaning for what is computed: {', '.join(ignored)}")
    code = sorted(each.name for each in path.parent.glob("*.py"))
    if code or "auto_map" in content:
        named = ", ".join(code) or "auto_map's"
        notes.append(f"code that comes with the model ({named}) was neither run nor looked at")
    return HubConfiguration(_renamed(path, _unfolded(path, options)), tuple(notes))


def sorted_for(
    path: Path, options: dict[str, Any], own: frozenset[str], inner: str
) -> dict[str, Any]:
    """Options of a backbone and of its layers that were given side by side, parted.

    Args:
        path: for messages.
        options: as given.
        own: the backbone's options.
        inner: under which it takes those of its layers.

    Raises:
        S4EdgeError: an option of the layers is said twice, and not the same.
    """
    layer = options.get(inner)
    if isinstance(layer, list) or (layer is not None and not isinstance(layer, dict)):
        return options
    mine = {key: value for key, value in options.items() if key in own}
    others = {key: value for key, value in options.items() if key not in own and key != inner}
    if not others and layer is None:
        return mine
    return {**mine, inner: _joined(path, others, layer or {}, inner)}


def _json_object(path: Path, what: str) -> dict[str, Any]:
    try:
        check_file(path, "mend or remove it", "; fetch it again")
        content = parse_json(read_text(path), finite=False)
    except (OSError, ValueError, S4EdgeError) as error:
        raise S4EdgeError(f"{what} {path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise S4EdgeError(f"{what} {path} is no JSON object; fetch it again")
    return content


# Options of upstream's classes that are objects themselves.
_STRUCTURED = frozenset(
    ("layer", "layer_kwargs", "norm", "pool", "residual", "encoder", "decoder", "lr")
)


def _unfolded(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Options that lie under one key, beside those that do not.

    Raises:
        S4EdgeError: both say something, and not the same.
    """
    keys = [
        key for key, value in options.items() if isinstance(value, dict) and key not in _STRUCTURED
    ]
    # The trainer's own configuration: model, encoder and decoder side by side.
    if len(keys) != 1 or (keys == ["model"] and {"encoder", "decoder"} & options.keys()):
        return options
    outer = {key: value for key, value in options.items() if key != keys[0]}
    return _joined(path, outer, _unfolded(path, options[keys[0]]), keys[0])


def _joined(path: Path, outer: dict[str, Any], inner: dict[str, Any], where: str) -> dict[str, Any]:
    """Options that stand outside and inside of the group ``where``.

    Raises:
        S4EdgeError: both say something, and not the same.
    """
    for key in sorted(outer.keys() & inner.keys()):
        if outer[key] != inner[key]:
            raise S4EdgeError(
                f"{path.parent / CONFIG} says {key}={json.dumps(outer[key])}, and under {where} "
                f"{key}={json.dumps(inner[key])}; mend it"
            )
    return {**outer, **inner}


def _renamed(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Options under upstream's names.

    Raises:
        S4EdgeError: two names for one thing do not say the same.
    """
    renamed: dict[str, Any] = {}
    for key, value in options.items():
        name = _SYNONYMS.get(key, key)
        said = options.get(name, renamed.get(name, value))
        if said != value:
            raise S4EdgeError(
                f"{path} says {key}={json.dumps(value)} and {name}={json.dumps(said)}, which are "
                "the same thing; mend it"
            )
        renamed[name] = value
    return renamed
